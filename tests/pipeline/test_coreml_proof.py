"""Core ML's program of an .onnx file gives the file's answers, or is refused by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

pytest.importorskip("coremltools", reason="Core ML's tools are not installed")

from edgeq.core.errors import InvalidInput
from edgeq.formats.apple import graph as apple_graph
from edgeq.formats.coreml.write import export_graph_coreml
from edgeq.models.graphs.imported import import_onnx
from edgeq.pipeline.proof.coreml import prove_package
from tests.support import onnx_kinds

SMALLEST, LARGEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def net(operator: str, constants: dict[str, Any], **attributes: Any) -> onnx.ModelProto:
    """`(1, 6, 8)` through a product and one operator."""
    names = ["p", *constants]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
        helper.make_node(operator, names, ["y"], "tried", **attributes),
    ]
    stored = {name: np.array(numbers, np.int64) for name, numbers in constants.items()}
    stored["w"] = onnx_kinds.floats(8, 8)
    inputs, outputs = [onnx_kinds.value("x", [1, 6, 8])], [onnx_kinds.value("y", ["a", "b", "c"])]
    return onnx_kinds.model(nodes, inputs, outputs, stored)


def sliced(start: int, end: int, step: int, axis: int = 1) -> onnx.ModelProto:
    """A slice along one axis."""
    parts = {"starts": [start], "ends": [end], "axes": [axis], "steps": [step]}
    return net("Slice", parts)


def sums(**attributes: int) -> onnx.ModelProto:
    """Running sums along axis 1."""
    return net("CumSum", {"axis": 1}, **attributes)


def halves(divisor: int) -> onnx.ModelProto:
    """Whole numbers of both signs, divided."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
        helper.make_node("Mul", ["p", "many"], ["large"], "large"),
        helper.make_node("Cast", ["large"], ["whole"], "whole", to=onnx.TensorProto.INT64),
        helper.make_node("Div", ["whole", "divisor"], ["half"], "tried"),
        helper.make_node("Cast", ["half"], ["y"], "back", to=onnx.TensorProto.FLOAT),
    ]
    stored = {
        "w": onnx_kinds.floats(8, 8),
        "many": np.array([100], np.float32),
        "divisor": np.array([divisor], np.int64),
    }
    inputs, outputs = [onnx_kinds.value("x", [1, 6, 8])], [onnx_kinds.value("y", ["a", "b", "c"])]
    return onnx_kinds.model(nodes, inputs, outputs, stored)


MODELS = {
    "whole_division": halves(7),
    "whole_division_by_a_negative": halves(-7),
    "sums": sums(),
    "sums_backwards": sums(reverse=1),
    "sums_before": sums(exclusive=1),
    "sums_before_backwards": sums(exclusive=1, reverse=1),
    "slice_all_backwards": sliced(-1, SMALLEST, -1),
    "slice_backwards_from_beyond": sliced(LARGEST, -100, -1),
    "slice_backwards_to_the_second": sliced(-1, 0, -1),
    "slice_backwards_by_two": sliced(4, -6, -2),
    "slice_forwards": sliced(1, LARGEST, 2),
    "slice_last": sliced(-2, LARGEST, 1, axis=-1),
    "slice_from_beyond_the_front": sliced(-100, 3, 1),
}


def package(made: onnx.ModelProto, folder: Path) -> tuple[Path, Path, onnx_kinds.Feed]:
    """The float graph's directory, the package and a sample."""
    onnx.save(made, folder / "source.onnx")
    import_onnx(folder / "source.onnx", folder)
    target = folder / "m.mlpackage"
    export_graph_coreml(folder, target, {}, shapes={}, compute="float32")
    feed = {"x": np.random.default_rng(1).standard_normal((1, 6, 8)).astype(np.float32)}
    return folder, target, feed


@pytest.mark.parametrize("name", MODELS)
def test_what_has_a_direction_or_a_sign_is_as_in_the_file(name: str, tmp_path: Path) -> None:
    graph, target, feed = package(MODELS[name], tmp_path)
    assert prove_package(graph, target, feed, feed) < 1e-5


def test_the_operator_that_a_program_has_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forwards(t: Any, node: Any, args: list[Any]) -> Any:
        return t.emit("cumsum", str(node.name), x=args[0], axis=1)

    monkeypatch.setitem(apple_graph.HANDLERS, "CumSum", forwards)
    graph, target, feed = package(MODELS["sums_backwards"], tmp_path)
    with pytest.raises(InvalidInput, match="they diverge at CumSum 'tried'"):
        prove_package(graph, target, feed, feed)
