from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from edgeq.core.artifact import ValueInfo, read_artifact, write_artifact
from edgeq.core.errors import InvalidInput, Missing
from edgeq.core.known_settings import SESSION_KEY
from edgeq.measure import arrays
from edgeq.measure.cross_cpu import compare as compare_module
from edgeq.measure.cross_cpu import probe as probe_module
from edgeq.measure.cross_cpu.compare import compare_cpus
from edgeq.measure.cross_cpu.probe import make_probe
from edgeq.measure.cross_cpu.records import Differences
from edgeq.measure.cross_cpu.samples import graph_feeds
from edgeq.measure.cross_cpu.statistics import compare
from edgeq.models.onnx_session import CURES, products_saturate
from edgeq.places.emulated import x86_place
from edgeq.places.emulated.arm_place import ArmPlace
from edgeq.places.emulated.x86_place import MaskedPlace
from edgeq.places.place import Here
from edgeq.places.process import PassStopped, Request
from edgeq.report.console import make_console
from edgeq.report.cross_cpu import print_comparison
from tests.support import samples
from tests.support.properties import examples
from tests.support.stand_ins import need, need_arm, users_cache

ROWS, WIDTH = 64, 128
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An exact answer, and two that legitimately differ from it by `noise` of its size."""
    rng = np.random.default_rng(seed)
    exact = rng.standard_normal((ROWS, WIDTH))
    first, second = (exact + noise * rng.standard_normal(exact.shape) for _ in range(2))
    return exact, first, second


@given(seeds, st.floats(1e-6, 0.03))
@examples(60)
def test_another_rounding_is_no_difference(seed: int, noise: float) -> None:
    exact, reference, place = drawn(seed, noise)
    assert compare([place], [exact], [[reference]]).faults() == []


@given(seeds, st.floats(1e-6, 0.006), st.sampled_from([-1.0, 1.0]), st.floats(0.0025, 0.05))
@examples(60)
def test_a_bias_is_found_that_a_mean_difference_misses(
    seed: int, noise: float, sign: float, bias: float
) -> None:
    exact, reference, place = drawn(seed, noise)
    shrunk = place * (1 + sign * bias)
    difference = shrunk - exact
    # Outputs have both signs: a test of the mean sees nothing at any usual level.
    assert abs(difference.mean()) < 6 * difference.std() / np.sqrt(difference.size)
    found = compare([shrunk], [exact], [[reference]])
    assert found.faults()
    assert found.slope_low is not None and found.slope_high is not None
    assert found.slope_low <= 1 + sign * bias <= found.slope_high


@given(seeds, st.floats(1e-6, 0.006), st.floats(1e-6, 1e6))
@examples(30)
def test_scale_does_not_matter(seed: int, noise: float, scale: float) -> None:
    exact, reference, place = drawn(seed, noise)
    place[3, 5] *= 3
    one = compare([place], [exact], [[reference]])
    other = compare([place * scale], [exact * scale], [[reference * scale]])
    for name, value in one.model_dump().items():
        assert getattr(other, name) == pytest.approx(value, rel=1e-6, abs=1e-12)


@given(seeds, st.floats(1e-6, 0.006))
@examples(30)
def test_one_saturated_element_is_found(seed: int, noise: float) -> None:
    exact, reference, place = drawn(seed, noise)
    at = np.unravel_index(np.abs(exact).argmax(), exact.shape)
    place[at] *= 0.5
    assert compare([place], [exact], [[reference]]).faults()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_found(value: float) -> None:
    exact, reference, place = drawn(0, 0.001)
    place[0, 0] = value
    assert compare([place], [exact], [[reference]]).faults()
    exact[0, 0] = value  # where it belongs
    assert compare([place], [exact], [[reference]]).faults() == []


def products_artifact(directory: Path) -> Path:
    """Two products of uint8 and int8 codes that use all of their range, floats around them."""
    rng = np.random.default_rng(0)
    tables = {}
    nodes = []
    for name, taken, given_ in (("a", "features", "hidden"), ("b", "hidden", "logits")):
        tables[f"{name}.codes"] = rng.integers(-127, 128, (WIDTH, WIDTH), np.int8)
        tables[f"{name}.scale"] = np.array(0.01, np.float32)
        nodes += [
            helper.make_node(
                "DynamicQuantizeLinear", [taken], [f"{name}.q", f"{name}.s", f"{name}.z"]
            ),
            helper.make_node(
                "MatMulInteger", [f"{name}.q", f"{name}.codes", f"{name}.z"], [f"{name}.sum"], name
            ),
            helper.make_node("Cast", [f"{name}.sum"], [f"{name}.float"], to=1),
            helper.make_node("Mul", [f"{name}.s", f"{name}.scale"], [f"{name}.both"]),
            helper.make_node("Mul", [f"{name}.float", f"{name}.both"], [given_]),
        ]
    inputs = (ValueInfo(name="features", dtype="float32", shape=("batch", WIDTH)),)
    outputs = (ValueInfo(name="logits", dtype="float32", shape=("batch", WIDTH)),)
    directory.mkdir(parents=True)
    samples._save_model(directory, nodes, inputs, outputs, tables)
    facts = {"task": "tensor"}
    return samples._save_artifact(directory, "onnx-int8", inputs, outputs, tables, facts)


def qdq_artifact(directory: Path) -> Path:
    """Two products whose weights have a scale per channel and no zero point, as QDQ."""
    rng = np.random.default_rng(0)
    tables: dict[str, np.ndarray] = {}
    nodes = []
    for name in ("a", "b"):
        tables |= {
            f"{name}.codes": rng.integers(-127, 128, (WIDTH, WIDTH), np.int8),
            f"{name}.scales": rng.uniform(0.001, 0.01, WIDTH).astype(np.float32),
            f"{name}.scale": np.array(0.03, np.float32),
            f"{name}.zero": np.array(128, np.uint8),
        }
        number_format = [f"{name}.scale", f"{name}.zero"]
        nodes += [
            helper.make_node("QuantizeLinear", ["features", *number_format], [f"{name}.q"]),
            helper.make_node("DequantizeLinear", [f"{name}.q", *number_format], [f"{name}.x"]),
            helper.make_node(
                "DequantizeLinear", [f"{name}.codes", f"{name}.scales"], [f"{name}.w"], axis=1
            ),
            helper.make_node("MatMul", [f"{name}.x", f"{name}.w"], [f"{name}.logits"], name),
        ]
    inputs = (ValueInfo(name="features", dtype="float32", shape=("batch", WIDTH)),)
    outputs = tuple(
        ValueInfo(name=f"{name}.logits", dtype="float32", shape=("batch", WIDTH)) for name in "ab"
    )
    directory.mkdir(parents=True)
    samples._save_model(directory, nodes, inputs, outputs, tables)
    facts = {"task": "tensor"}
    return samples._save_artifact(directory, "onnx-int8-static", inputs, outputs, tables, facts)


@pytest.fixture(scope="module")
def avx2() -> Iterator[MaskedPlace]:
    need(x86_place.available("avx2"))
    with MaskedPlace("avx2") as place:
        yield place


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return products_artifact(tmp_path_factory.mktemp("products") / "artifact")


def test_saturation_is_found_and_its_cure_tried(products: Path, avx2: MaskedPlace) -> None:
    here, masked = compare_cpus(products, [Here(), avx2], lambda words: None).places
    assert here.status in ("same", "cured")
    assert masked.status == "cured" and masked.cure == CURES["x86_64"]
    assert masked.operator in ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
    assert masked.differing == 2 and masked.operators[0].statistics.rms > 0.01
    assert masked.how == "emulated" and masked.whole is not None


def test_fused_products_that_share_a_zero_point_can_be_cured(
    avx2: MaskedPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_module, "_STARTING", 0.0)  # as of a slow one: in two processes
    artifact_dir = qdq_artifact(tmp_path / "artifact")
    artifact = read_artifact(artifact_dir)
    probe = make_probe(artifact_dir, artifact, graph_feeds(artifact_dir, artifact))
    products = [node for node in probe.model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    int8 = {each.name for each in probe.model.graph.initializer if each.data_type == 3}
    codes = [name for node in products for name in node.input if name in int8]
    assert len(products) == 2 and len(codes) == 4 and len(set(codes)) == 4
    (masked,) = compare_cpus(artifact_dir, [avx2], lambda words: None).places
    assert (masked.status, masked.operator, masked.differing) == (
        "cured",
        "MatMulIntegerToFloat",
        2,
    )


def test_an_uncured_difference_is_an_error(
    products: Path, avx2: MaskedPlace, tmp_path: Path
) -> None:
    """The artifact says which settings the loader shall use: none."""
    if products_saturate():
        pytest.skip("this CPU saturates as the masked one does")
    artifact = read_artifact(products)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in artifact.files:
        (bare / name).write_bytes((products / name).read_bytes())
    write_artifact(bare, artifact.model_copy(update={"settings": {SESSION_KEY: {}}}))
    found = compare_cpus(bare, [avx2], lambda words: None)
    assert found.exit_status == 1
    assert found.places[0].status == "differs" and found.places[0].cure == CURES["x86_64"]
    assert "loader" in found.places[0].reason


def test_four_bits_are_the_same_on_every_x86(avx2: MaskedPlace, tmp_path: Path) -> None:
    artifact = samples.block_artifact(tmp_path / "artifact", 4, 4, aligned=True)
    found = compare_cpus(artifact, [avx2], lambda words: None)
    assert found.exit_status == 0 and found.places[0].status == "same"
    assert found.places[0].compared > 0


def test_the_bias_of_four_bits_on_arm_is_found(tmp_path: Path) -> None:
    artifact = samples.block_artifact(tmp_path / "artifact", 4, 4, aligned=True)
    with users_cache():
        need_arm()
        with ArmPlace("dotprod") as place:
            (found,) = compare_cpus(artifact, [place], lambda words: None).places
    assert (found.status, found.operator) == ("cured", "MatMulNBits")
    assert found.cure == CURES["aarch64"]
    assert "biased" in found.reason


def test_a_gguf_file_is_compared_by_its_logits(avx2: MaskedPlace, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from tests.support.gguf_artifacts import WREN, gguf_artifact

    need(x86_place.available("avx"))
    quantized = gguf_artifact(WREN, tmp_path / "quantized", "Q8_0")
    precise = gguf_artifact(WREN, tmp_path / "precise")
    with MaskedPlace("avx") as avx:
        found = compare_cpus(quantized, [avx2, avx], lambda words: None, precise)
    newer, older = found.places
    assert newer.status == "same" and newer.whole is not None and newer.whole.noise_rms > 0
    # That build of llama.cpp is compiled for AVX2, and chooses nothing when it is loaded.
    assert older.status == "not run" and "avx2" in older.reason


def test_operators_run_alone_on_what_the_model_saw(tmp_path: Path) -> None:
    artifact_dir = samples.tensor_artifact(tmp_path / "artifact", width=64)
    artifact = read_artifact(artifact_dir)
    probe = make_probe(artifact_dir, artifact, graph_feeds(artifact_dir, artifact))
    kinds = {operator.kind for operator in probe.operators}
    assert kinds & {"MatMul", "FusedMatMul", "Gemm", "FusedGemm"} and "Gather" in kinds
    outputs = [output for operator in probe.operators for output in operator.outputs]
    assert sorted(outputs) == list(range(len(probe.model.graph.output)))
    weights = {constant.name for constant in probe.model.graph.initializer}
    made = {name for node in probe.model.graph.node for name in node.output}
    fed = {name for node in probe.model.graph.node for name in node.input if name}
    assert not made & fed
    assert fed - weights == set(probe.feeds[0])


def test_answers_whose_number_depends_on_the_data_are_no_fault(tmp_path: Path) -> None:
    artifact = samples.detector_artifact(tmp_path / "artifact")
    (found,) = compare_cpus(artifact, [Here()], lambda words: None).places
    assert found.status == "same"


class Fewer(Here):
    """A place that leaves out values."""

    def run_each(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        replies = super().run_each(requests)
        for request in requests:
            assert request.outputs is not None
            answers = [np.atleast_1d(array)[:-1] for array in arrays.read_arrays(request.outputs)]
            arrays.write_arrays(request.outputs, answers)
        return replies


def test_an_answer_of_another_shape_is_a_difference(tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=64)
    (found,) = compare_cpus(artifact, [Fewer()], lambda words: None).places
    assert found.status == "differs"
    assert "another shape" in found.reason


class Lost(Here):
    """A place that is out of reach."""

    name = "lost"

    def run_each(self, requests: object) -> list[dict[str, object]]:
        from edgeq.core.errors import Problem

        raise Missing(Problem("lost", "does not answer"))


def test_a_place_out_of_reach_is_not_run(tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=64)
    found = compare_cpus(artifact, [Lost()], lambda words: None)
    assert found.exit_status == 3
    assert found.places[0].status == "not run" and "does not answer" in found.places[0].reason


class Emulator(Here):
    """A place that takes a thousand times as long."""

    name = "arm64: old"
    slowdown = 1000.0


@pytest.mark.parametrize(
    ("starting", "most", "status"),
    [(0.0, 1e-3, "not run"), (0.0, None, "same"), (1e6, 1e-3, "same")],
)
def test_a_place_that_would_take_too_long_is_not_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    starting: float,
    most: float | None,
    status: str,
) -> None:
    monkeypatch.setattr(compare_module, "_STARTING", starting)
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=64)
    places = [Emulator()]
    (found,) = compare_cpus(artifact, places, lambda words: None, most_seconds=most).places
    assert found.status == status
    assert ("EDGEQ_COMPARE_CPUS" in found.reason) == (status == "not run")


def test_once_all_have_taken_too_long_no_other_is_asked(tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=64)
    places = [Here(), Here()]
    first, second = compare_cpus(artifact, places, lambda words: None, most_seconds=1e-3).places
    assert (first.status, second.status) == ("same", "not run")
    assert "the classes before took 0 minutes; name it in EDGEQ_COMPARE_CPUS" in second.reason


def masked_artifact(directory: Path) -> Path:
    """Two layers of a product, a mask and a softmax."""
    rng = np.random.default_rng(0)
    tables = {"mask": np.triu(np.full((WIDTH, WIDTH), -np.inf, np.float32), 1)}
    nodes = [helper.make_node("Mul", ["features", "one"], ["x0"])]
    tables["one"] = np.ones(WIDTH, np.float32)
    for layer in range(2):
        tables[f"w{layer}"] = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32)
        nodes += [
            helper.make_node(
                "MatMul", [f"x{layer}", f"w{layer}"], [f"p{layer}"], f"product{layer}"
            ),
            helper.make_node("Add", [f"p{layer}", "mask"], [f"m{layer}"], f"mask{layer}"),
            helper.make_node("Softmax", [f"m{layer}"], [f"x{layer + 1}"], f"softmax{layer}"),
        ]
    inputs = (ValueInfo(name="features", dtype="float32", shape=(WIDTH, WIDTH)),)
    outputs = (ValueInfo(name="x2", dtype="float32", shape=(WIDTH, WIDTH)),)
    directory.mkdir(parents=True)
    samples._save_model(directory, nodes, inputs, outputs, tables)
    return samples._save_artifact(
        directory, "onnx-int8", inputs, outputs, tables, {"task": "tensor"}
    )


def test_masks_of_infinity_and_equal_layers(tmp_path: Path) -> None:
    directory = masked_artifact(tmp_path / "artifact")
    artifact = read_artifact(directory)
    probe = make_probe(directory, artifact, graph_feeds(directory, artifact))
    kinds = [operator.kind for operator in probe.operators]
    # A weight is every layer's own; a softmax of the same shape is the same kernel.
    assert kinds.count("Softmax") == 1
    assert sum("MatMul" in kind or "Gemm" in kind for kind in kinds) == 2
    assert len(probe.feeds) == 4
    (found,) = compare_cpus(directory, [Here()], lambda words: None).places
    assert (found.status, found.compared) == ("same", len(kinds))


def test_operators_on_no_values_are_left_out(tmp_path: Path) -> None:
    """As those of an expert that no token chose."""
    tables = {
        "w": np.ones((WIDTH, WIDTH), np.float32),
        "zeros": np.zeros(WIDTH, np.float32),
        "axis": np.array([0]),
    }
    nodes = [
        helper.make_node("Mul", ["features", "zeros"], ["nothing"]),
        helper.make_node("ReduceMax", ["nothing"], ["chosen"], axes=[1], keepdims=0),
        helper.make_node("NonZero", ["chosen"], ["found"]),
        helper.make_node("Squeeze", ["found", "axis"], ["rows"]),
        helper.make_node("Gather", ["features", "rows"], ["own"]),
        helper.make_node("MatMul", ["own", "w"], ["fed"]),
        helper.make_node("ReduceSum", ["fed", "axis"], ["sum"]),
        helper.make_node("Add", ["features", "sum"], ["y"]),
    ]
    inputs = (ValueInfo(name="features", dtype="float32", shape=(WIDTH, WIDTH)),)
    outputs = (ValueInfo(name="y", dtype="float32", shape=(WIDTH, WIDTH)),)
    directory = tmp_path / "artifact"
    directory.mkdir()
    samples._save_model(directory, nodes, inputs, outputs, tables)
    samples._save_artifact(directory, "onnx", inputs, outputs, tables, {"task": "tensor"})
    artifact = read_artifact(directory)
    probe = make_probe(directory, artifact, graph_feeds(directory, artifact))
    assert [operator.kind for operator in probe.operators] == ["Mul", "ReduceMax", "Add"]
    assert all(array.size for feed in probe.feeds for array in feed.values())


def test_more_values_take_fewer_samples_and_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = masked_artifact(tmp_path / "artifact")
    artifact = read_artifact(directory)
    feeds = graph_feeds(directory, artifact)
    monkeypatch.setattr(probe_module, "_ENOUGH_VALUES", 1)
    assert len(make_probe(directory, artifact, feeds).feeds) == 1
    monkeypatch.setattr(probe_module, "_MOST_VALUES", 1000)
    with pytest.raises(InvalidInput, match=r"take and give \d+,\d+ values"):
        make_probe(directory, artifact, feeds)


class Slow(Here):
    """A place that takes too long."""

    name = "slow"

    def run_each(self, requests: object) -> list[dict[str, object]]:
        raise PassStopped("the quality pass did not finish")


def test_a_place_that_is_too_slow_is_to_be_asked_again(tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=64)
    (found,) = compare_cpus(artifact, [Slow()], lambda words: None).places
    assert (found.status, found.settled) == ("not run", False)


def test_a_changed_artifact_is_refused(tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=64)
    with (artifact / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InvalidInput, match=r"model\.onnx"):
        compare_cpus(artifact, [], lambda words: None)


def test_the_command_prints_and_ends_with_its_status(
    products: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from edgeq.cli.main import app

    need(x86_place.available("avx2"))
    done = CliRunner().invoke(app, ["compare-cpus", str(products), "--on", "avx2", "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert [place["place"] for place in printed["places"]] == ["here", "x86: avx2"]
    assert printed["exit_status"] == 0
    file = io.StringIO()
    print_comparison(
        Differences.model_validate({k: v for k, v in printed.items() if k != "exit_status"}),
        make_console(file),
    )
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:4] == ["x86:", "avx2", "emulated", "cured"] for line in lines)
    assert "session.x64quantprecision=1" in file.getvalue()
    shown = CliRunner().invoke(app, ["emulate"])
    assert shown.exit_code == 0 and "x86: avx2: ready" in shown.stdout


def test_outputs_of_several_widths_are_compared_together() -> None:
    rng = np.random.default_rng(0)
    exact = [rng.standard_normal(shape) for shape in ((1, 1), (2, 1, 8), ())]
    found = compare([1.1 * each for each in exact], exact, [])
    assert found.elements == 18 and found.rms == pytest.approx(0.1)
