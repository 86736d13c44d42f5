"""Compute constant expressions of a graph once: cast, transposed, shared weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

_ARITHMETIC = "Abs Add Div Exp Gemm MatMul Max Min Mul Neg Pow Reciprocal Sqrt Sub Where"
_SHAPES = "Concat Expand Flatten Gather Identity Reshape Shape Size Slice Split Squeeze Transpose"
_FOLDED = frozenset(
    f"{_ARITHMETIC} {_SHAPES} Cast CastLike ConstantOfShape Range Unsqueeze".split()
)
_NEVER_GROWS_FROM = 1 << 16  # bytes: a result larger than this must not exceed its inputs


def fold_constants(model: ir.Model) -> None:
    """Replace every node whose inputs are all constants by its result."""
    for node in list(model.graph.all_nodes()):
        if node.domain in ("", "ai.onnx") and node.op_type in _FOLDED and _is_constant(node):
            _fold(model, node)


def _is_constant(node: ir.Node) -> bool:
    known = [value is None or is_constant(value) for value in node.inputs]
    return bool(known) and all(known) and not any(v.is_graph_output() for v in node.outputs)


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is stored in the file."""
    return value is not None and value.is_initializer() and value.const_value is not None


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a stored value; None if it is computed or absent."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


def _fold(model: ir.Model, node: ir.Node) -> None:
    sources = list(node.inputs)
    arrays = [constant(value) for value in sources]
    results = _evaluate(node, arrays)
    given = sum(array.nbytes for array in arrays if array is not None)
    if results is None or sum(r.nbytes for r in results) > max(given, _NEVER_GROWS_FROM):
        return
    assert node.graph is not None
    made = []
    for value, result in zip(node.outputs, results, strict=True):
        made.append(_constant_for(value, ir.tensor(result)))
        value.replace_all_uses_with(made[-1])
        value.name = None
    node.graph.remove(node, safe=True)
    name = _name_of_source(model, sources)
    if name and len(made) == 1:
        made[0].name = name  # rules and errors use the names of the file's own weights
    for new in made:
        model.graph.register_initializer(new)


def _constant_for(value: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
    shape, kind = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
    return ir.Value(name=value.name, const_value=tensor, shape=shape, type=kind)


def _name_of_source(model: ir.Model, sources: Sequence[ir.Value | None]) -> str | None:
    """Name of the only large constant among `sources` that nothing else reads; removes it."""
    large = [v for v in sources if v is not None and v.shape is not None and len(v.shape) > 1]
    if len(large) != 1 or large[0].uses() or large[0].is_graph_output():
        return None
    name = large[0].name or ""
    return name if model.graph.initializers.pop(name, None) is not None else None


def _evaluate(node: ir.Node, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """The result of a node on constants, by onnx's own definition; None if that has none."""
    proto = ir.to_proto(node)
    feeds = {name: a for name, a in zip(proto.input, arrays, strict=True) if a is not None}
    try:
        results = ReferenceEvaluator(proto).run(None, feeds)
    except Exception:  # whatever it is, the node stays, and onnxruntime decides
        return None
    return [np.asarray(result) for result in results]
