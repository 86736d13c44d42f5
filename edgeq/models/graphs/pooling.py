"""The sentence head of an encoder in its ONNX graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.models.graphs.rewriting import GraphWriter
from edgeq.models.sentence_head import Activation, Dense, LayerNorm, Pooling, SentenceHead
from edgeq.models.weights import Weights

_END = 2**31 - 1
_OPERATORS = {"ReLU": "Relu", "LeakyReLU": "LeakyRelu", "ELU": "Elu", "SELU": "Selu"}


def add_head(graph: ir.Model, head: SentenceHead, hidden: int) -> None:
    """Append the head that turns a text's unmasked tokens, of width `hidden`, into one vector."""
    writer = GraphWriter(graph)
    mask = next(value for value in graph.graph.inputs if value.name == "attention_mask")
    tokens = graph.graph.outputs[0]
    if head.skipped:
        tokens = _behind(writer, tokens, head.skipped)
    parts = [_pooled(writer, pooling, tokens, mask, head.skipped) for pooling in head.poolings]
    pooled = writer.append("Concat", parts, {"axis": -1}) if len(parts) > 1 else parts[0]
    for layer in head.layers:
        if isinstance(layer, Dense):
            pooled = _dense(writer, layer, pooled)
        elif isinstance(layer, LayerNorm):
            pooled = _layer_norm(writer, layer, pooled)
        else:
            pooled = writer.append("LpNormalization", [pooled], {"axis": -1, "p": 2})
    if head.truncate is not None:
        bounds = [_integers(writer, value) for value in (0, head.truncate, -1)]
        pooled = writer.append("Slice", [pooled, *bounds])
    pooled.name = "sentence_embedding"
    pooled.dtype = ir.DataType.FLOAT
    rows = mask.shape[0] if mask.shape is not None else "batch_size"
    pooled.shape = ir.Shape([rows, head.width(hidden)])
    graph.graph.outputs[:] = [pooled]


def _behind(writer: GraphWriter, value: ir.Value, skipped: int) -> ir.Value:
    """`value` (texts, tokens, …) without the first tokens."""
    bounds = [_integers(writer, each) for each in (skipped, _END, 1)]
    return writer.append("Slice", [value, *bounds])


def _pooled(
    writer: GraphWriter, pooling: Pooling, tokens: ir.Value, mask: ir.Value, skipped: int
) -> ir.Value:
    """One vector per text; poolings that are sums are products with a row of token weights.

    tokens: without the first `skipped` ones, which `mask` still has.
    """
    last, middle = _integers(writer, -1), _integers(writer, 1)
    if pooling == "cls":
        first = writer.constant("pool.first", np.array(0, np.int64))
        return writer.append("Gather", [tokens, first], {"axis": 1})
    if pooling == "max":
        least = writer.constant("pool.least", np.array(np.finfo(np.float32).min))
        mask = _behind(writer, mask, skipped) if skipped else mask
        seen = writer.append("Cast", [mask], {"to": ir.DataType.BOOL.value})
        masked = writer.append("Where", [writer.append("Unsqueeze", [seen, last]), tokens, least])
        return writer.append("ReduceMax", [masked, middle], {"keepdims": 0})
    weights = writer.append("Cast", [mask], {"to": ir.DataType.FLOAT.value})
    if pooling in ("weightedmean", "lasttoken"):  # by a token's index among the unmasked ones
        weights = writer.append("Mul", [writer.append("CumSum", [weights, last]), weights])
    if skipped:
        weights = _behind(writer, weights, skipped)
    if pooling == "lasttoken":
        place = writer.append("ReduceMax", [weights, last], {"keepdims": 1})
        weights = writer.append("Equal", [weights, place])
        weights = writer.append("Cast", [weights], {"to": ir.DataType.FLOAT.value})
    row = writer.append("Unsqueeze", [weights, middle])
    summed = writer.append("Squeeze", [writer.append("MatMul", [row, tokens]), middle])
    if pooling == "lasttoken":
        return summed
    one = writer.constant("pool.one", np.array(1, np.float32))
    count = writer.append("ReduceSum", [weights, last], {"keepdims": 1})
    count = writer.append("Max", [count, one])
    if pooling == "mean_sqrt_len_tokens":
        count = writer.append("Sqrt", [count])
    return writer.append("Div", [summed, count])


def _dense(writer: GraphWriter, dense: Dense, value: ir.Value) -> ir.Value:
    weights = Weights([dense.file])
    matrix = writer.constant(f"{dense.name}.linear.weight", weights.read("linear.weight").T)
    value = writer.append("MatMul", [value, matrix])
    if dense.bias:
        shift = writer.constant(f"{dense.name}.linear.bias", weights.read("linear.bias"))
        value = writer.append("Add", [value, shift])
    return _activated(writer, dense.activation, value)


def _activated(writer: GraphWriter, activation: Activation, value: ir.Value) -> ir.Value:
    match activation:
        case "Identity":
            return value
        case "SiLU":
            return writer.append("Mul", [value, writer.append("Sigmoid", [value])])
        case "GELU":
            root, one, half = (
                writer.constant("head.number", np.array(number, np.float32))
                for number in (2**0.5, 1, 0.5)
            )
            error = writer.append("Erf", [writer.append("Div", [value, root])])
            scaled = writer.append("Mul", [value, writer.append("Add", [error, one])])
            return writer.append("Mul", [scaled, half])
        case _:
            return writer.append(_OPERATORS.get(activation, activation), [value])


def _layer_norm(writer: GraphWriter, norm: LayerNorm, value: ir.Value) -> ir.Value:
    weights = Weights([norm.file])
    parts = [
        writer.constant(f"{norm.name}.{name}", weights.read(name))
        for name in ("norm.weight", "norm.bias")
    ]
    return writer.append("LayerNormalization", [value, *parts], {"axis": -1, "epsilon": 1e-5})


def _integers(writer: GraphWriter, value: int) -> ir.Value:
    return writer.constant("pool.integers", np.array([value], np.int64))
