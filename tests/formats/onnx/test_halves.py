"""Floats stored in float16: the same answers, from fewer bytes, at the same speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
from onnx import helper, numpy_helper

from edgeq.core.artifact import MODEL_FILE
from edgeq.formats.onnx import write
from edgeq.formats.onnx.halves import bytes_of_the_rest, fits_half
from edgeq.models.graphs.imported import import_onnx
from edgeq.models.graphs.opened import load_graph
from edgeq.quantize.decide import decide
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import preset
from tests.formats.onnx.test_write import operators_at_run_time, quantize, relative_error, run
from tests.support import onnx_kinds


def narrow_net(path: Path, largest: float = 1.0) -> tuple[Path, dict[str, np.ndarray]]:
    """A product that can be quantized, after one that is too small; and an input.

    largest: the size of the small one's values.
    """
    rng = np.random.default_rng(0)
    small = (largest * rng.standard_normal((32, 64))).astype(np.float32)
    wide = rng.standard_normal((64, 128)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "small"], ["h"], "narrow"),
        helper.make_node("Tanh", ["h"], ["t"], "tanh"),
        helper.make_node("MatMul", ["t", "wide"], ["y"], "wide"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 32])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 128])],
        [numpy_helper.from_array(small, "small"), numpy_helper.from_array(wide, "wide")],
        value_info=[helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, [1, 64])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path, {"x": rng.standard_normal((1, 32)).astype(np.float32)}


def constants(model: Path) -> dict[str, int]:
    """The types of a file's constants, by name."""
    graph = onnx.load(model, load_external_data=False).graph
    return {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_small_weights_are_expanded_once_and_change_nothing(tmp_path: Path) -> None:
    source, feed = narrow_net(tmp_path / "net.onnx")
    plain, model, _ = quantize(source, tmp_path, "int8-stored", [feed])
    kinds = constants(model)
    assert kinds["small.half"] == onnx.TensorProto.FLOAT16 and "small" not in kinds
    assert relative_error(run(model, feed), run(plain, feed)) < 0.01
    assert "Cast" not in operators_at_run_time(model, tmp_path / "optimized.onnx")


def test_what_float16_does_not_hold_stays(tmp_path: Path) -> None:
    source, feed = narrow_net(tmp_path / "net.onnx", largest=1e-7)
    _, model, _ = quantize(source, tmp_path, "int8-stored", [feed])
    assert constants(model)["small"] == onnx.TensorProto.FLOAT
    assert fits_half(np.array([0.1, -6e4])) and not fits_half(np.array([7e4]))


def test_a_file_leaves_out_what_runtimes_infer(tmp_path: Path) -> None:
    source, feed = narrow_net(tmp_path / "net.onnx")
    _, model, _ = quantize(source, tmp_path, "int8-static", [feed])
    graph = onnx.load(model, load_external_data=False).graph
    assert not graph.value_info and graph.output[0].type.tensor_type.shape.dim[1].dim_value == 128
    assert run(model, feed).shape == (1, 128)


def test_a_weight_that_codes_would_ruin_is_stored_in_float16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, feed = onnx_kinds.save("hard_swish_and_numbers", tmp_path)
    (plain := tmp_path / "plain").mkdir()
    (limited := tmp_path / "limited").mkdir()
    import_onnx(source, plain)
    intent = Intent(preset("int8-static", "onnx", "tensor"), "onnx", "tensor")

    def loud(each: dict[str, float], *others: object) -> dict[str, float]:
        weights = [name for name in each if name in others[1]]  # type: ignore[operator]
        return {weights[0]: 0.03}

    monkeypatch.setattr(write, "too_loud", loud)
    written = write.write_quantized(
        plain, limited, lambda n, s: decide(n, s, intent), [feed], str, limit=1e-9
    )
    (kept,) = [name for name, t in written.tensors.items() if t.number_format == "float16"]
    record = written.tensors[kept]
    assert record.note == "stays float: in int8 it changes the answers by 3%"
    assert record.bytes == 2 * np.prod(record.shape)
    assert constants(limited / MODEL_FILE)[f"{kept}.half"] == onnx.TensorProto.FLOAT16
    assert relative_error(run(limited / MODEL_FILE, feed), run(plain / MODEL_FILE, feed)) < 0.05


def test_a_plan_knows_what_is_no_weight(tmp_path: Path) -> None:
    """Small layers and the graph: most of such a file."""
    source, feed = narrow_net(tmp_path / "net.onnx")
    plain, model, written = quantize(source, tmp_path, "int8-stored", [feed])
    graph, weights = load_graph(plain.parent).graph, sum(t.bytes for t in written.tensors.values())
    planned = weights + bytes_of_the_rest(graph, set(written.tensors))
    built = sum(path.stat().st_size for path in model.parent.iterdir())
    assert abs(planned - built) < 0.1 * built
