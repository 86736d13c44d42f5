"""The operators of layers that carry on a few positions in place of a cache."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.models.architectures.convolution import Convolution
from edgeq.models.graphs.decoder_parts import DecoderParts
from edgeq.models.graphs.rewriting import GraphWriter
from edgeq.quantize.number_formats import Floats

_END = np.iinfo(np.int64).max


def short_convolution(
    parts: DecoderParts,
    kind: Convolution,
    stem: str,
    hidden: ir.Value,
    past: ir.Value,
    present: list[ir.Value],
) -> ir.Value:
    """A layer's output for `hidden`, (1, tokens, hidden). past: (1, taps - 1, hidden); `present` is
    extended by it.
    """
    columns = parts.linear(hidden, f"{stem}.in_proj", bias=kind.bias)
    gate, second, value = parts.split(columns, 3)
    given, name = parts.append("Mul", [gate, value]), f"{stem}.conv.weight"
    summed, left = convolved(parts.writer, past, given, name, parts.vector(name))
    present.append(left)
    if kind.bias:
        bias = parts.writer.constant(f"{stem}.conv.bias", parts.vector(f"{stem}.conv.bias"))
        summed = parts.append("Add", [summed, bias])
    gated = parts.append("Mul", [second, summed])
    return parts.linear(gated, f"{stem}.out_proj", bias=kind.bias)


def convolved(
    writer: GraphWriter, past: ir.Value, given: ir.Value, name: str, weight: Floats
) -> tuple[ir.Value, ir.Value]:
    """A causal sum over positions, column by column, and the positions to carry on.

    past: (1, taps - 1, columns), given: (1, tokens, columns). name: of the weight, float32
    (columns, 1, taps).
    """

    def along(start: int, stop: int) -> ir.Value:
        bounds = [writer.constant("bound", np.array([n], np.int64)) for n in (start, stop, 1)]
        return writer.append("Slice", [rows, *bounds])

    rows = writer.append("Concat", [past, given], {"axis": 1})
    last = weight.shape[-1] - 1
    summed = None
    for tap in range(last + 1):
        factors = writer.constant(f"{name}.{tap}", weight[:, 0, tap])
        product = writer.append("Mul", [along(tap, tap - last or _END), factors])
        summed = product if summed is None else writer.append("Add", [summed, product])
    assert summed is not None
    return summed, along(-last, _END)
