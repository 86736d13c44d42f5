"""Sizes that follow from a text's length, as encoders have them, in both of Apple's formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")
pytest.importorskip("coremltools", reason="the extra [coreml] is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.coreai.write import export_graph_coreai
from edgeq.formats.coreml.executor import load
from edgeq.formats.coreml.write import export_graph_coreml

LENGTHS = (4, 7)


def graph() -> onnx.ModelProto:
    """Distances between positions, repeated for each head, and added to a table's rows."""
    names = {
        "zero": np.array(0, np.int64), "one": np.array(1, np.int64), "at_one": np.array([1]),
        "first": np.array([0]), "second": np.array([1]), "heads": np.array([2]),
        "table": np.arange(6, dtype=np.float32)[None] - 3, "keep": np.array([0, 0, -1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["length"]),
        helper.make_node("Unsqueeze", ["length", "first"], ["size"]),
        helper.make_node("Range", ["zero", "length", "one"], ["places"]),
        helper.make_node("Unsqueeze", ["places", "second"], ["column"]),
        helper.make_node("Sub", ["places", "column"], ["apart"]),
        helper.make_node("Cast", ["apart"], ["distance"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["heads", "size", "size"], ["wide"], axis=0),
        helper.make_node("Expand", ["distance", "wide"], ["repeated"]),
        helper.make_node("Reshape", ["repeated", "keep"], ["same"]),
        helper.make_node("Concat", ["size", "at_one"], ["tall"], axis=0),
        helper.make_node(
            "ConstantOfShape", ["tall"], ["halves"],
            value=numpy_helper.from_array(np.array([0.5], np.float32)),
        ),
        helper.make_node("Mul", ["halves", "table"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "second"], ["total"], keepdims=1),
        helper.make_node("Add", ["same", "total"], ["mixed"]),
        helper.make_node("Cast", ["ids"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["mixed", "numbers"], ["y"]),
    ]  # fmt: skip
    made = helper.make_graph(
        nodes,
        "free",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, "n", "n"])],
        [numpy_helper.from_array(array, name) for name, array in names.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def test_answers_of_every_length_are_those_of_onnxruntime(tmp_path: Path) -> None:
    model = graph()
    onnx.save(model, tmp_path / MODEL_FILE)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    shapes = {"ids": [(1, length) for length in LENGTHS]}
    package, asset = tmp_path / "a.mlpackage", tmp_path / "a.aimodel"
    export_graph_coreml(tmp_path, package, {}, shapes=shapes, compute="float32")
    export_graph_coreai(tmp_path, asset, {}, shapes=shapes, compute="float32")
    programs = load(package).predict, Runtime(asset).run
    for length in LENGTHS:
        ids = np.arange(length, dtype=np.int64)[None] + 5
        (wanted,) = session.run(None, {"ids": ids})
        for run in programs:
            np.testing.assert_allclose(run({"ids": ids.astype(np.int32)})["y"], wanted, rtol=1e-6)


def resized(mode: str, how: str, *scales: float) -> dict[str, Any]:
    """A Resize by factors."""
    constants = {"scales": np.array([1, 1, *scales], np.float32)}
    attributes = {"mode": mode, "coordinate_transformation_mode": how}
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    return {"kind": "Resize", "more": ["", "scales"], "constants": constants, "given": attributes}


WINDOW: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}
FILTER = np.random.default_rng(0).normal(size=(2, 4, 2, 2)).astype(np.float32)
OF_IMAGES: dict[str, dict[str, Any]] = {
    "nearest": resized("nearest", "asymmetric", 2, 3),
    "bilinear": {**resized("linear", "half_pixel", 2, 2), "refused": "Core AI has no operator"},
    "aligned": {**resized("linear", "align_corners", 2, 2), "refused": "Core AI has no operator"},
    "asymmetric": {**resized("linear", "asymmetric", 2, 4), "refused": "Core AI has no operator"},
    "spread": {
        "kind": "ConvTranspose", "more": ["w"], "constants": {"w": FILTER},
        "given": {"strides": [2, 2]},
    },
    "largest": {"kind": "MaxPool", "given": {**WINDOW, "pads": [1, 1, 1, 1]}},
    "mean": {"kind": "AveragePool", "given": WINDOW},
}  # fmt: skip


@pytest.mark.parametrize("name", OF_IMAGES)
def test_images_of_every_size_become_what_onnxruntime_makes_of_them(
    tmp_path: Path, name: str
) -> None:
    case = OF_IMAGES[name]
    stored = [numpy_helper.from_array(a, n) for n, a in case.get("constants", {}).items()]
    node = helper.make_node(case["kind"], ["x", *case.get("more", [])], ["y"], **case["given"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", [x], [y], stored)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, tmp_path / MODEL_FILE)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    shapes = {"x": [(1, 2, 6, 8), (1, 2, 11, 7)]}
    package, asset = tmp_path / "a.mlpackage", tmp_path / "a.aimodel"
    export_graph_coreml(tmp_path, package, {}, shapes=shapes, compute="float32")
    programs: list[Any] = [load(package).predict]
    if "refused" in case:
        with pytest.raises(InvalidInput, match=case["refused"]):
            export_graph_coreai(tmp_path, asset, {}, shapes=shapes)
    else:
        export_graph_coreai(tmp_path, asset, {}, shapes=shapes, compute="float32")
        programs.append(Runtime(asset).run)
    for shape in shapes["x"]:
        image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        (wanted,) = session.run(None, {"x": image})
        for run in programs:
            np.testing.assert_allclose(run({"x": image})["y"], wanted, rtol=1e-5, atol=1e-5)
