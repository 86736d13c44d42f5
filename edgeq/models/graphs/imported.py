"""Import a user's .onnx file into the form that quantization starts from."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.graphs.folding import fold_constants
from edgeq.models.graphs.normal import normalize, share_transposed
from edgeq.models.graphs.opened import resolve_data
from edgeq.models.graphs.pooling import add_head
from edgeq.models.graphs.rewriting import infer_shapes, name_uniquely, save_model
from edgeq.models.graphs.simplified import simplify
from edgeq.models.graphs.source import READ_ERRORS, first_line, read_source, unreadable
from edgeq.models.graphs.wellformed import operator_sets
from edgeq.models.graphs.widening import widen
from edgeq.models.sentence_head import SentenceHead

# QuantizeLinear supports a scale per channel from here on.
_OLDEST_OPSET = 13
_TARGET_OPSET = 17
_NEEDS_NO_INPUTS = 4  # the first version of the format in which constants need not be inputs
_TOKEN_AXES = 3
WIDENED = "edgeq.widened"
"""Key of ir.Model.meta: whether the file computes in float16 or bfloat16."""


def read_onnx(path: Path) -> ir.Model:
    """The graph of `path` with every constant as a named initializer of the main graph.

    Functions are inlined, constant expressions are computed, and float16 or bfloat16 values become
    float32. Raises InvalidInput for a file that is not ONNX, misses its external data, or whose
    operator set cannot be converted to one with quantized types.
    """
    proto = read_source(path)
    try:
        model = _to_ir(proto, path)
        _lift_constants(model)
        share_transposed(model)
        fold_constants(model)
        model.meta[WIDENED] = widen(model)
        normalize(model)
        name_uniquely(model)
        passes.RemoveUnusedNodesPass()(model)
        _correct_ranks(model)
        simplify(model)
    except READ_ERRORS as error:
        raise unreadable(path, error) from error
    return model


def import_onnx(path: Path, destination: Path, head: SentenceHead | None = None) -> None:
    """Write `model.onnx` and its external data to `destination`, batch norms folded.

    head: of a sentence encoder; appended to a graph whose answer is a vector for each token.
    """
    model = read_onnx(path)
    if head is not None and gives_tokens(model):
        shape = model.graph.outputs[0].shape
        assert shape is not None and isinstance(shape[-1], int)  # as the recipe was checked
        add_head(model, head, shape[-1])
    save_model(model, destination / MODEL_FILE)


def gives_tokens(model: ir.Model) -> bool:
    """Whether the first output has the axes (texts, tokens, width)."""
    return len(model.graph.outputs[0].shape or ()) == _TOKEN_AXES


def _to_ir(proto: onnx.ModelProto, path: Path) -> ir.Model:
    opset = operator_sets(proto)[""]
    model = resolve_data(ir.from_proto(proto), path.parent)
    if opset < _OLDEST_OPSET:
        model = _upgraded(model, path, opset)
    return model


def _upgraded(model: ir.Model, path: Path, opset: int) -> ir.Model:
    whole = ir.to_proto(ir.external_data.load_to_model(model))
    whole.ir_version = max(whole.ir_version, _NEEDS_NO_INPUTS)
    try:
        converted = onnx.version_converter.convert_version(whole, _TARGET_OPSET)
    except READ_ERRORS as error:
        what = f"opset {opset} cannot be converted to {_TARGET_OPSET}: {first_line(error)}"
        remedy = f"export it with opset {_TARGET_OPSET}"
        raise InvalidInput(Problem(str(path), what, remedy)) from None
    newer: ir.Model = ir.from_proto(converted)
    return newer


def _correct_ranks(model: ir.Model) -> None:
    """Give each output the rank that its operators imply, if the file states another."""
    stated = [(value, value.shape) for value in model.graph.outputs]
    for value, _ in stated:
        value.shape = None
    infer_shapes(model)
    for value, shape in stated:
        if shape is not None and (value.shape is None or len(value.shape) == len(shape)):
            value.shape = shape


def _lift_constants(model: ir.Model) -> None:
    """Turn every stored array into an initializer of the main graph, visible to subgraphs too."""
    name_uniquely(model)
    passes.RemoveInitializersFromInputsPass()(model)
    for node in list(model.graph.all_nodes()):
        if node.op_type == "Constant" and node.outputs[0].is_graph_output():
            _detach(node)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.LiftSubgraphInitializersToMainGraphPass()(model)


def _detach(constant: ir.Node) -> None:
    """Insert an Identity between a constant and the graph output that it is."""
    assert constant.graph is not None
    result = constant.outputs[0]
    copy = ir.node("Identity", [result], name=f"{constant.name}.Identity")
    new = copy.outputs[0]
    new.name, new.shape, new.type = result.name, result.shape, result.type
    constant.graph.insert_after(constant, copy)
    result.replace_all_uses_with(new, replace_graph_outputs=True)
    copy.replace_input_with(0, result)
    result.name = f"{new.name}.constant"
