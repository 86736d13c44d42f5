"""Statistics of calibration are those of numpy over everything that flowed by."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeq.models.onnx_session import Session, open_session
from edgeq.quantize import statistics
from edgeq.quantize.statistics import Feed, InputStatistics, collect
from tests.support.properties import examples

COLUMNS = {"x": 6, "hidden": 10}


@pytest.fixture(scope="module")
def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, weight: np.ndarray) -> Session:
    """`x (tokens, 6)` times a weight, with the inner tensor as an output beside the result."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Relu", ["product"], ["hidden"]),
        helper.make_node("ReduceSum", ["hidden"], ["y"], keepdims=0),
    ]

    def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", ["tokens", 6])],
        [value("y", []), value("hidden", ["tokens", 10])],
        [numpy_helper.from_array(weight, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(made, path)
    return open_session(path, threads=1)


def feeds(lengths: list[int], seed: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((n, 6)).astype(np.float32) * 3 + 1} for n in lengths]


def values(samples: list[dict[str, np.ndarray]], weight: np.ndarray) -> dict[str, np.ndarray]:
    """All rows of both tensors, by numpy."""
    x = np.concatenate([sample["x"] for sample in samples])
    return {"x": x, "hidden": np.maximum(x @ weight, 0)}


@examples(25, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any),
    seed=st.integers(0, 99),
)
def test_statistics_are_those_of_numpy(
    model: Session, weight: np.ndarray, lengths: list[int], seed: int
) -> None:
    samples = feeds(lengths, seed)
    found = collect(model, COLUMNS, samples, frozenset(COLUMNS))
    for name, rows in values(samples, weight).items():
        seen = found[name]
        np.testing.assert_allclose(seen.low, rows.min(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(seen.high, rows.max(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(seen.rows, rows, rtol=1e-5, atol=1e-5)
        assert [len(sample) for sample in seen.samples] == [n for n in lengths if n]
        assert seen.rows.dtype == seen.low.dtype == np.float32
        exact = rows.astype(np.float64)
        assert seen.hessian is not None
        np.testing.assert_allclose(seen.hessian, exact.T @ exact / len(rows), rtol=1e-4, atol=1e-4)


def test_second_moments_only_where_they_are_wanted(model: Session) -> None:
    found = collect(model, COLUMNS, feeds([3], 0), frozenset({"hidden"}))
    assert found["x"].hessian is None
    assert found["hidden"].hessian is not None


def test_a_tensor_that_held_nothing_is_left_out(model: Session) -> None:
    assert collect(model, COLUMNS, feeds([0, 0], 0), frozenset(COLUMNS)) == {}
    assert collect(model, COLUMNS, [], frozenset()) == {}


def test_kept_rows_are_bounded_and_ranges_see_all(model: Session, weight: np.ndarray) -> None:
    samples = feeds([1500, 1500, 1500], 1)
    samples[2]["x"][7, 3] = 1000
    seen = collect(model, COLUMNS, samples, frozenset(COLUMNS))["x"]
    assert len(seen.rows) == 2048
    np.testing.assert_array_equal(seen.rows, values(samples, weight)["x"][:2048])
    assert seen.high[3] == 1000
    exact = values(samples, weight)["x"].astype(np.float64)
    assert seen.hessian is not None
    np.testing.assert_allclose(seen.hessian, exact.T @ exact / 4500, rtol=1e-4)


def test_turns_change_nothing(model: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for the second moments of one tensor only, each is watched in a turn of its own."""
    samples: list[Feed] = list(feeds([5, 17, 1], 2))
    together = collect(model, COLUMNS, samples, frozenset(COLUMNS))
    monkeypatch.setattr(statistics, "_HESSIAN_BYTES_AT_ONCE", 10 * 10 * 8)
    turns = statistics._in_turns(COLUMNS, frozenset(COLUMNS))
    assert turns == [["x"], ["hidden"]]
    apart = collect(model, COLUMNS, samples, frozenset(COLUMNS))
    assert apart.keys() == together.keys()
    for name in COLUMNS:
        assert_same(apart[name], together[name])


def assert_same(one: InputStatistics, other: InputStatistics) -> None:
    for field in ("low", "high", "rows", "hessian"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@given(
    sizes=st.dictionaries(st.text("abcdefgh", min_size=1), st.integers(1, 20_000), max_size=12),
    data=st.data(),
)
def test_every_turn_fits_in_memory(sizes: dict[str, int], data: st.DataObject) -> None:
    names = sorted(sizes)
    hessians = frozenset(data.draw(st.sets(st.sampled_from(names)))) if names else frozenset()
    turns = statistics._in_turns(sizes, hessians)
    assert [name for turn in turns for name in turn] == list(sizes)
    for turn in turns:
        costs = [sizes[name] ** 2 * 8 for name in turn if name in hessians]
        assert sum(costs) <= statistics._HESSIAN_BYTES_AT_ONCE or len(costs) == 1
