"""Positions of a call's tokens: their part of a state, their mask, their rotation."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.formats.apple.constants import ANGLES, Weight
from edgeq.formats.apple.writer import Writer
from edgeq.models.architectures import Decoder
from edgeq.models.graphs.decoder_rope import Rotation, Rotations

_MASKED = -30000.0  # added to scores: finite in float16, and so are two of them


@dataclass(frozen=True)
class Places:
    """Positions of a call's tokens.

    begin, end: int32 (4,), the part of a state that they fill. masks: added to scores, by window,
    (1, 1, 1, tokens, context). turns: cosines and sines, by rotation, (tokens, rope_dim).
    """

    begin: Any
    end: Any
    masks: Mapping[int | None, Any]
    turns: Mapping[int | None, tuple[Any, Any]]


def find_places(
    writer: Writer,
    decoder: Decoder,
    context: int,
    ids: Any,
    position: Any,
    turned: Rotations,
) -> Places:
    """Compute everything from the shape of the ids, by operators whose shapes depend on it alone.

    ids: int32 (1, tokens). position: int32 (1,). context: places in a state.
    """
    emit = writer.emit
    none = emit("mul", "positions.none", x=ids, y=np.int32(0))
    ones = emit("add", "positions.ones", x=none, y=np.int32(1))
    count = emit("reduce_sum", "positions.count", x=ones, axes=[1], keep_dims=False)
    counted = emit("cumsum", "positions.counted", x=ones, axis=1)
    behind = emit("add", "positions.behind", x=counted, y=position)
    rows = emit("sub", "positions.rows", x=behind, y=np.int32(1))
    after = emit("add", "positions.after", x=position, y=count)
    # The other axes of a state are written whole: their ends are masked.
    zero = np.zeros(1, np.int32)
    begin = emit("concat", "positions.begin", values=[zero, zero, position, zero], axis=0)
    end = emit("concat", "positions.end", values=[zero, zero, after, zero], axis=0)
    rows = emit("squeeze", "positions.flat", x=rows, axes=[0])
    windows = dict.fromkeys(decoder.windows)
    masks = {window: _mask(writer, context, rows, window) for window in windows}
    turns: dict[int | None, tuple[Any, Any]] = {}
    for window in windows:
        same = window is None or turned.windowed is turned.whole
        name, rotation = ("rope", turned.whole) if same else ("rope.windowed", turned.windowed)
        turns[window] = _turn(writer, context, name, rotation, rows)
    return Places(begin, end, masks, turns)


def _mask(writer: Writer, context: int, rows: Any, window: int | None) -> Any:
    emit, stem = writer.emit, "mask" if window is None else f"mask.window{window}"
    columns = np.arange(context, dtype=np.int32)[None, :]
    column = emit("expand_dims", f"{stem}.rows", x=rows, axes=[1])
    seen = emit("less_equal", f"{stem}.seen", x=columns, y=column)
    if window is not None:
        first = emit("sub", f"{stem}.first", x=column, y=np.int32(window))
        near = emit("greater", f"{stem}.near", x=columns, y=first)
        seen = emit("logical_and", f"{stem}.both", x=seen, y=near)
    kept = writer.cast(seen, writer.precision(stem))
    hidden = emit("sub", f"{stem}.hidden", x=1.0, y=kept)
    added = emit("mul", stem, x=hidden, y=_MASKED)
    return emit("expand_dims", f"{stem}.heads", x=added, axes=[0, 1, 2])


def _turn(
    writer: Writer, context: int, name: str, rotation: Rotation, rows: Any
) -> tuple[Any, Any]:
    """Cosines of the tokens, equal for both halves of the columns, and sines, the first half
    negative.

    A table of every position would be as large as a small model's layer. A position is a multiple
    of `ANGLES` plus a remainder: two short tables, combined by the addition theorems in float32.
    """
    emit = writer.in_float32
    step = np.int32(ANGLES)
    many = emit("floor_div", f"{name}.many", x=rows, y=step)
    rest = emit("mod", f"{name}.rest", x=rows, y=step)
    stepped = Rotation(rotation.frequencies * np.float32(ANGLES), 1.0)
    counts = {"far": (stepped, -(-context // ANGLES), many), "near": (rotation, ANGLES, rest)}
    cosines: list[Any] = []
    sines: list[Any] = []
    for part, (each, length, index) in counts.items():
        for word, found in (("cosines", cosines), ("sines", sines)):
            values = getattr(each, word)(0, length)
            table = Weight(
                f"{name}.{part}.{word}.table", values.shape, functools.partial(_same, values)
            )
            found.append(emit("gather", f"{name}.{part}.{word}", x=table, indices=index, axis=0))
    both = emit("mul", f"{name}.cosine_both", x=cosines[0], y=cosines[1])
    less = emit("mul", f"{name}.cosine_less", x=sines[0], y=sines[1])
    cosine = emit("sub", f"{name}.cosine_half", x=both, y=less)
    first = emit("mul", f"{name}.sine_first", x=sines[0], y=cosines[1])
    second = emit("mul", f"{name}.sine_second", x=cosines[0], y=sines[1])
    sine = emit("add", f"{name}.sine_half", x=first, y=second)
    negative = emit("mul", f"{name}.sine_negative", x=sine, y=-1.0)
    return (
        writer.emit("concat", f"{name}.cosines", values=[cosine, cosine], axis=-1),
        writer.emit("concat", f"{name}.sines", values=[negative, sine], axis=-1),
    )


def _same(values: np.ndarray) -> np.ndarray:
    return values
