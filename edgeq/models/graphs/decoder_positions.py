"""The positions of tokens in a language model's graph, and the angles that they turn by."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.models.graphs.decoder_parts import DecoderParts
from edgeq.models.graphs.decoder_rope import Rotation, Rotations
from edgeq.models.graphs.streamed import StreamedTensor

Table = tuple[ir.Value, ir.Value]


@dataclass(frozen=True)
class Positions:
    """Positions of the tokens, for attention.

    last: int32 (1,), index of the last position. total: int32 (1,). ids: int64 (1, tokens), rows of
    the tables, or None if they are the positions. growth: factors of queries, (1, tokens, 1), None
    if they do not grow. begun: bool (1,), whether any text precedes, None if nothing depends on it.
    whole, windowed: cosines and sines.
    """

    last: ir.Value
    total: ir.Value
    ids: ir.Value | None
    growth: ir.Value | None
    begun: ir.Value | None
    whole: Table
    windowed: Table


def find_positions(
    parts: DecoderParts, ids: ir.Value, past: ir.Value, turned: Rotations, context: int
) -> Positions:
    """The positions of the tokens `ids`, after `past` others. context: rows of the tables."""
    table = functools.partial(_table, parts, context)
    count = parts.append("Shape", [ids], {"start": 1})
    total = parts.append("Add", [past, count])
    last = parts.append("Sub", [total, parts.numbers([1])])
    to_int32 = {"to": ir.DataType.INT32.value}
    begun = None
    if parts.decoder.state_bytes:
        begun = parts.append("Greater", [past, parts.numbers([0])])
    last32 = parts.append("Cast", [last], to_int32)
    total32 = parts.append("Cast", [total], to_int32)
    if turned.beyond is None:
        whole = table("rope", turned.whole)
        same = turned.windowed is turned.whole
        windowed = whole if same else table("rope.windowed", turned.windowed)
        growth = _growth(parts, past, total) if parts.decoder.query_growth else None
        return Positions(last32, total32, None, growth, begun, whole, windowed)
    # Both sets of angles are one table: the long ones begin after `switch` rows.
    length = parts.input("text_length", ir.DataType.INT64, [1])
    switch = parts.numbers([turned.switch])
    is_long = parts.append("Greater", [length, switch])
    is_long = parts.append("Cast", [is_long], {"to": ir.DataType.INT64.value})
    offset = parts.append("Mul", [is_long, switch])
    rows = _range(parts, past, total)
    rows = parts.append("Unsqueeze", [parts.append("Add", [rows, offset]), parts.numbers([0])])
    both = table("rope", turned.whole, turned.beyond, turned.switch)
    return Positions(last32, total32, rows, None, begun, both, both)


def _range(parts: DecoderParts, past: ir.Value, total: ir.Value) -> ir.Value:
    """The position of every token, int64 (tokens,)."""
    scalar = [parts.append("Squeeze", [value]) for value in (past, total)]
    one = parts.writer.constant("one", np.array(1, np.int64))
    return parts.append("Range", [*scalar, one])


def _growth(parts: DecoderParts, past: ir.Value, total: ir.Value) -> ir.Value:
    decoder = parts.decoder
    turns = parts.append(
        "Div", [_range(parts, past, total), parts.numbers([decoder.rope.original])]
    )
    turns = parts.append("Cast", [turns], {"to": ir.DataType.FLOAT.value})
    one = parts.writer.constant("one", np.array(1, np.float32))
    growth = parts.append("Log", [parts.append("Add", [turns, one])])
    factors = parts.append("Add", [parts.scaled(growth, decoder.query_growth), one])
    return parts.append("Unsqueeze", [factors, parts.numbers([0, 2])])


def _table(
    parts: DecoderParts,
    context: int,
    name: str,
    near: Rotation,
    beyond: Rotation | None = None,
    switch: int = 0,
) -> Table:
    """Cosines and sines of `near`, and with `beyond` its own from row `switch` on."""
    shape = (context + switch, len(near.frequencies))

    def reader(part: str) -> StreamedTensor:
        def read(start: int, stop: int) -> np.ndarray:
            pieces = []
            if start < switch or beyond is None:
                end = stop if beyond is None else min(stop, switch)
                pieces.append(getattr(near, part)(start, end))
            if beyond is not None and stop > switch:
                pieces.append(getattr(beyond, part)(max(start - switch, 0), stop - switch))
            return np.concatenate(pieces)

        return StreamedTensor(f"{name}.{part}", ir.DataType.FLOAT, shape, read)

    cosines, sines = (
        parts.writer.constant(f"{name}.{part}", reader(part)) for part in ("cosines", "sines")
    )
    return cosines, sines
