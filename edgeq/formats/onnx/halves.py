"""Weights that stay floats, stored in float16: half the download, and expanded once when opened.

An integer's rounding changes a weight by some hundredths of its largest value, a half's by two
thousandths of each value: what is too sensitive for codes, or too small for scales of its own, is
as good as it was.
"""

from __future__ import annotations

import math
from collections.abc import Container

import numpy as np
import onnx_ir as ir

from edgeq.models.graphs.rewriting import GraphWriter, bodies
from edgeq.quantize.decide import SMALLEST_WEIGHT

_FEWEST_VALUES = 512  # with fewer, the node that expands them takes as many bytes as it saves
_NODE_BYTES = 90  # as measured in nets of 100 to 330 nodes
_MOST_ERROR = 1e-3  # of the RMS; values near float16's smallest lose more
_READERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def fits_half(array: np.ndarray) -> bool:
    """Whether float16 holds `array` as exactly as its mantissa allows.

    >>> fits_half(np.array([0.1, 3.0])), fits_half(np.array([1e-9])), fits_half(np.array([1e5]))
    (True, False, False)
    """
    with np.errstate(over="ignore"):
        error = array.astype(np.float16).astype(np.float64) - array
    size = float(np.linalg.norm(np.asarray(array, np.float64)))
    return bool(np.isfinite(error).all()) and float(np.linalg.norm(error)) <= _MOST_ERROR * size


def store_as_half(model: ir.Model, value: ir.Value) -> None:
    """Let what reads the float32 constant `value` read it from float16."""
    writer = GraphWriter(model)
    assert value.const_value is not None
    half = writer.constant(f"{value.name}.half", value.const_value.numpy().astype(np.float16))
    uses = list(value.uses())
    to_float = {"to": ir.DataType.FLOAT.value}
    whole = writer.emit(model.graph[0], "Cast", [half], to_float, name=value.name)
    for use in uses:
        use.node.replace_input_with(use.idx, whole)


def small_weights(model: ir.Model) -> list[ir.Value]:
    """Weights of layers that are left in float32 for their size, and that float16 holds."""
    return [
        value
        for value in model.graph.initializers.values()
        if _is_small_weight(value) and fits_half(value.const_value.numpy())  # type: ignore[union-attr]
    ]


def bytes_of_the_rest(graph: ir.Graph, weights: Container[str]) -> int:
    """Estimated bytes of an .onnx file's graph and of its constants other than `weights`."""
    stored = (value for value in graph.initializers.values() if value.name not in weights)
    constants = sum(
        value.const_value.nbytes // (2 if _is_small_weight(value) else 1)
        for value in stored
        if value.const_value is not None
    )
    inner = (body for node in graph for body in bodies(node))
    return constants + _NODE_BYTES * len(graph) + sum(bytes_of_the_rest(b, weights) for b in inner)


def _is_small_weight(value: ir.Value) -> bool:
    stored, uses = value.const_value, list(value.uses())
    if stored is None or stored.dtype != ir.DataType.FLOAT or value.is_graph_output():
        return False
    is_small = _FEWEST_VALUES <= math.prod(stored.shape.numpy()) < SMALLEST_WEIGHT
    readers = [use.node.op_type in _READERS and use.idx == 1 for use in uses]
    return is_small and len(stored.shape) >= 2 and bool(uses) and all(readers)
