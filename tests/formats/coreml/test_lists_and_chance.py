"""Lists that loops write, and random values, in the executor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="the extra [coreml] is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.formats.coreml.executor import load
from edgeq.formats.coreml.executor.operators import OPERATORS
from tests.support.coreml_models import coremltools

SHAPE = np.array([200, 300], np.int32)


def saved(function: Any, path: Path) -> Path:
    """A function of a Builder and an input of shape (3, 2) as a package."""
    ct = coremltools()
    from coremltools.converters.mil import Builder

    specs, target = [Builder.TensorSpec((3, 2))], ct.target.iOS17

    def program(x: Any) -> Any:
        return function(Builder, x)

    made = ct.convert(
        Builder.program(input_specs=specs, opset_version=target)(program),
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
        minimum_deployment_target=target,
    )
    made.save(str(path))
    return path


def test_a_loop_fills_a_list(tmp_path: Path) -> None:
    """Running sums of rows, written one by one; the list grows from one element."""

    def sums(mb: Any, x: Any) -> Any:
        ls = mb.make_list(init_length=1, elem_shape=(2,), dynamic_length=True)

        def body(place: Any, total: Any, ls: Any) -> Any:
            total = mb.add(x=total, y=mb.gather(x=x, indices=place, axis=0))
            return mb.add(x=place, y=1), total, mb.list_write(ls=ls, index=place, value=total)

        start = np.zeros(2, np.float32)
        ends = mb.while_loop(
            _cond=lambda place, total, ls: mb.less(x=place, y=3),
            _body=body,
            loop_vars=(np.int32(0), start, ls),
        )
        rows = mb.list_gather(ls=ends[2], indices=[0, 1, 2])
        rows = mb.mul(x=rows, y=mb.cast(x=mb.list_length(ls=ends[2]), dtype="fp32"))
        last = mb.list_read(ls=ends[2], index=2)
        swapped = mb.list_scatter(ls=ends[2], indices=[2, 0], value=mb.gather(x=x, indices=[0, 1]))
        return rows, last, mb.list_gather(ls=swapped, indices=[0, 2])

    x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    rows, last, swapped = load(saved(sums, tmp_path / "a.mlpackage")).predict({"x": x}).values()
    np.testing.assert_allclose(rows, np.cumsum(x, 0) * 3, rtol=1e-6)
    np.testing.assert_allclose(last, x.sum(0), rtol=1e-6)
    np.testing.assert_array_equal(swapped, x[[1, 0]])


def test_a_list_of_fixed_length_refuses_a_place_beyond_it(tmp_path: Path) -> None:
    def beyond(mb: Any, x: Any) -> Any:
        ls = mb.make_list(init_length=2, elem_shape=(3, 2), dynamic_length=False)
        place = mb.cast(x=mb.reduce_max(x=x), dtype="int32")
        return mb.list_read(ls=mb.list_write(ls=ls, index=place, value=x), index=place)

    program = load(saved(beyond, tmp_path / "a.mlpackage"))
    (kept,) = program.predict({"x": np.ones((3, 2), np.float32)}).values()
    np.testing.assert_array_equal(kept, np.ones((3, 2)))
    with pytest.raises(InvalidInput, match="place 5 of a list of 2"):
        program.predict({"x": np.full((3, 2), 5, np.float32)})


@pytest.mark.parametrize(
    ("name", "settings", "mean", "deviation"),
    [
        ("random_uniform", {"low": -1.0, "high": 3.0}, 1, 4 / 12**0.5),
        ("random_normal", {"mean": 2.0, "stddev": 0.5}, 2, 0.5),
        ("random_bernoulli", {"prob": 0.2}, 0.2, 0.4),
    ],
)
def test_random_values_have_their_distribution(
    name: str, settings: dict[str, float], mean: float, deviation: float
) -> None:
    draw = OPERATORS[name]
    found = draw(SHAPE, **settings, seed=7)
    assert found.shape == (200, 300)
    assert found.mean() == pytest.approx(mean, abs=5 * deviation / found.size**0.5)
    assert found.std() == pytest.approx(deviation, rel=0.03)
    np.testing.assert_array_equal(draw(SHAPE, **settings, seed=7), found)
    assert not np.array_equal(draw(SHAPE, **settings, seed=8), found)
    free = [draw(SHAPE, **settings, seed=-1) for _ in range(2)]
    assert not np.array_equal(*free)


@pytest.mark.parametrize("mode", ["logits", "probs"])
def test_random_classes_have_their_shares(mode: str) -> None:
    shares = np.array([[0.5, 0.3, 0.2], [0.05, 0.05, 0.9]], np.float32)
    given = np.log(shares) + 3 if mode == "logits" else shares
    found = OPERATORS["random_categorical"](given, mode=mode, size=20_000, seed=1)
    assert found.shape == (2, 20_000)
    for row, wanted in zip(found, shares, strict=True):
        counts = np.bincount(row.astype(int), minlength=3) / row.size
        np.testing.assert_allclose(counts, wanted, atol=0.02)
