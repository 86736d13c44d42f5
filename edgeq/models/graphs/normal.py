"""Normalize operators to the one form that later steps know: axes, products, batch norms.

Every rewriting preserves onnx's definition; if that would require computation, the node stays
unchanged and keeps its weights in float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.models.graphs.folding import constant, is_constant
from edgeq.models.graphs.rewriting import CONTRIB, GraphWriter

_ONNX = ("", "ai.onnx")


def normalize(model: ir.Model) -> None:
    """Rewrite operators with more than one form; batch norms are folded into their convolutions."""
    writer = GraphWriter(model)
    for node in list(model.graph.all_nodes()):
        if node.domain not in _ONNX:
            continue
        if node.op_type == "Gather":
            _count_axis_from_front(node)
        elif node.op_type == "Gemm":
            _plain_gemm(writer, node)
        elif node.op_type == "BatchNormalization":
            _fold_batch_norm(writer, node)


def _count_axis_from_front(node: ir.Node) -> None:
    axis, table = node.attributes.get_int("axis", 0), node.inputs[0]
    if axis < 0 and table is not None and table.shape is not None:
        node.attributes["axis"] = ir.AttrInt64("axis", axis + len(table.shape))


def share_transposed(model: ir.Model) -> None:
    """Make a table that is both looked up and, transposed, multiplied by one constant."""
    writer = GraphWriter(model)
    for node in list(model.graph.all_nodes()):
        if node.domain in _ONNX and node.op_type == "Transpose" and _is_tied(node):
            for use in list(node.outputs[0].uses()):
                inputs = [use.node.inputs[0], node.inputs[0]]
                writer.replace(use.node, "FusedMatMul", inputs, {"transB": 1}, domain=CONTRIB)


def _is_tied(node: ir.Node) -> bool:
    (table,), turned = node.inputs, node.outputs[0]
    if table is None or not is_constant(table) or len(table.shape or ()) != 2:
        return False
    is_swap = list(node.attributes.get_ints("perm", [1, 0])) == [1, 0]
    is_looked_up = any(use.node.op_type == "Gather" and not use.idx for use in table.uses())
    multiplied = all(u.node.op_type == "MatMul" and u.idx == 1 for u in turned.uses())
    return is_swap and is_looked_up and multiplied and not turned.is_graph_output()


def _plain_gemm(writer: GraphWriter, node: ir.Node) -> None:
    """Without factors or a transposed input, with bias `(columns,)`, if its weight is stored."""
    given, weight = node.inputs[:2]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    alpha, beta = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
    if weight is None or not is_constant(weight):
        return
    right = node.attributes.get_int("transB", 0)
    columns = int(weight.shape[0 if right else 1])  # type: ignore[index, arg-type]
    if node.attributes.get_int("transA", 0):
        given = writer.emit(node, "Transpose", [given], {"perm": [1, 0]})
    if alpha != 1 and len(weight.uses()) == 1:
        weight = _scaled(writer, weight, alpha)
    elif alpha != 1:
        factor = writer.constant(f"{node.name}.alpha", np.array(alpha, np.float32))
        given = writer.emit(node, "Mul", [given, factor])
    inputs: list[ir.Value | None] = [given, weight]
    stored = None if bias is None else _stored_bias(writer, bias, beta, columns)
    if stored is not None or bias is None:
        inputs += [stored] if stored is not None else []
        writer.replace(node, "Gemm", inputs, {"transB": right})
        return
    product = writer.emit(node, "Gemm", inputs, {"transB": right})
    added: ir.Value = bias
    if beta != 1:
        factor = writer.constant(f"{node.name}.beta", np.array(beta, np.float32))
        added = writer.emit(node, "Mul", [bias, factor])
    writer.replace(node, "Add", [product, added])


def _stored_bias(writer: GraphWriter, bias: ir.Value, beta: float, columns: int) -> ir.Value | None:
    """The bias as `(columns,)`; None if it is computed, or differs from row to row."""
    array = constant(bias)
    if array is None or (array.size != 1 and array.shape[-1:] != (array.size,)):
        return None
    if array.shape == (columns,) and beta == 1:
        return bias
    spread = np.broadcast_to(array.reshape(-1), (columns,)) * np.float32(beta)
    return writer.constant(f"{bias.name}.columns", spread.astype(array.dtype))


def _scaled(writer: GraphWriter, value: ir.Value, factor: float) -> ir.Value:
    array = constant(value)
    if factor == 1 or array is None:
        return value
    return writer.constant(f"{value.name}.scaled", (array * np.float32(factor)).astype(array.dtype))


def _fold_batch_norm(writer: GraphWriter, norm: ir.Node) -> None:
    """Scale a convolution's filters and bias by the batch norm that is the only reader of its
    result.

    `γ (w x + b - μ) / √(σ² + ε) + β` is a convolution again (Ioffe & Szegedy, 2015,
    arXiv:1502.03167, section 3.1); in integers it then needs no float step in between. In training
    mode the mean and variance are the batch's own, which no constant represents.
    """
    image = norm.inputs[0]
    conv = image.producer() if image is not None else None
    if image is None or conv is None or (conv.domain, conv.op_type) != ("", "Conv"):
        return
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    fixed = [conv.inputs[1], *norm.inputs[1:5], *([bias] if bias is not None else [])]
    weight = conv.inputs[1]
    used_once = weight is not None and len(weight.uses()) == len(image.uses()) == 1
    others = [value for value in norm.outputs[1:] if value.uses() or value.is_graph_output()]
    if (
        norm.attributes.get_int("training_mode", 0)
        or others
        or not used_once
        or image.is_graph_output()
        or conv.graph is not norm.graph
        or not all(map(is_constant, fixed))
    ):
        return
    filters, gain, shift, mean, variance = (np.asarray(constant(v)) for v in fixed[:5])
    factor = gain / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    old = 0 if bias is None else np.asarray(constant(bias))
    folded = filters * factor.reshape(-1, *[1] * (filters.ndim - 1))
    offset = (old - mean) * factor + shift
    _replace_pair(writer, conv, norm, folded, offset)


def _replace_pair(
    writer: GraphWriter, conv: ir.Node, norm: ir.Node, filters: np.ndarray, bias: np.ndarray
) -> None:
    """Replace a convolution and its batch norm by one convolution with these weights."""
    weight = conv.inputs[1]
    assert weight is not None and norm.graph is not None
    weight.const_value = ir.tensor(filters.astype(np.float32))
    shift = writer.constant(f"{weight.name}.bias", bias.astype(np.float32))
    inputs = [*conv.inputs[:2], shift]
    folded = ir.node("Conv", inputs, dict(conv.attributes), name=conv.name)
    result, old = folded.outputs[0], norm.outputs[0]
    result.name, result.shape, result.type = old.name, old.shape, old.type
    norm.graph.insert_before(norm, folded)
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    norm.graph.remove([norm, conv], safe=True)
