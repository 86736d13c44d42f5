"""Where the tokens of a call are: the part of a state they fill, what they see, how they turn."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.export.coreml_constants import Weight
from edgeq.export.coreml_program import ProgramWriter
from edgeq.export.decoder_rope import Rotation, Rotations
from edgeq.models.architecture import Decoder

_MASKED = -30000.0  # added to scores: finite in float16, and so are two of them


@dataclass(frozen=True)
class Places:
    """Where the tokens of a call are.

    begin, end: int32 (4,), the part of a state that they fill. masks: what is added to scores, by
    window, (1, 1, 1, tokens, context). turns: cosines and sines, by rotation, (tokens, rope_dim).
    """

    begin: Any
    end: Any
    masks: Mapping[int | None, Any]
    turns: Mapping[int | None, tuple[Any, Any]]


def find_places(
    writer: ProgramWriter,
    decoder: Decoder,
    context: int,
    ids: Any,
    position: Any,
    turned: Rotations,
) -> Places:
    """All from the shape of the ids, by operators whose shapes follow from it alone.

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


def _mask(writer: ProgramWriter, context: int, rows: Any, window: int | None) -> Any:
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
    writer: ProgramWriter, context: int, name: str, rotation: Rotation, rows: Any
) -> tuple[Any, Any]:
    """Cosines and sines of the tokens, both halves of the columns alike."""
    found = []
    for part in ("cosines", "sines"):
        values = getattr(rotation, part)(0, context)
        table = Weight(f"{name}.{part}.table", values.shape, functools.partial(_same, values))
        half = writer.emit("gather", f"{name}.{part}.half", x=table, indices=rows, axis=0)
        found.append(writer.emit("concat", f"{name}.{part}", values=[half, half], axis=-1))
    return found[0], found[1]


def _same(values: np.ndarray) -> np.ndarray:
    return values
