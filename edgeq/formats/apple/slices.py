"""ONNX operators that cut off values at the edges of axes, or add some."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.constants import FAR
from edgeq.formats.apple.graph import Translator, Value, handles


@handles("Slice")
def _slice(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    rank = len(t.shape(args[0]))
    data, begins, ends, axes, steps = [*args, None, None, None][:5]
    chosen = t.numbers(axes) if axes is not None else list(range(t.shape(begins)[0]))
    chosen = [axis % rank for axis in chosen]
    whole = [axis not in chosen for axis in range(rank)]
    strides = [1] * rank
    for axis, step in zip(chosen, t.numbers(steps) if steps is not None else [], strict=False):
        strides[axis] = step
    begins, first = _edges(t, begins, chosen, strides, t.shape(data), is_end=False)
    ends, last = _edges(t, ends, chosen, strides, t.shape(data), is_end=True)
    return t.emit(
        "slice_by_index",
        str(node.name),
        x=data,
        begin=_places(t, f"{node.name}.0", begins, chosen, rank),
        end=_places(t, f"{node.name}.1", ends, chosen, rank),
        stride=strides,
        begin_mask=[a or b for a, b in zip(whole, first, strict=True)],
        end_mask=[a or b for a, b in zip(whole, last, strict=True)],
    )


def _edges(
    t: Translator,
    value: Value,
    axes: list[int],
    strides: list[int],
    shape: tuple[Any, ...],
    *,
    is_end: bool,
) -> tuple[Value, list[bool]]:
    """Where a slice begins or ends on `axes`, and the axes on which it does at the very edge.

    ONNX counts negative places from the back and clips places outside; backwards, an end before the
    first element has no number.
    """
    known = t.known(value)
    masks = [False] * len(shape)
    if known is None:
        if any(step < 0 for step in strides):
            raise ValueError("it goes backwards from or to a place that depends on the input")
        return value, masks
    places = []
    for axis, given in zip(axes, known.reshape(-1), strict=True):
        back, size, place = strides[axis] < 0, shape[axis], int(given)
        if isinstance(size, int | np.integer):
            place = place + int(size) if place < 0 else place
            outside = place < 0 if back == is_end else place >= int(size)
            place = min(max(place, 0), int(size))
        else:
            outside = place < -FAR if back == is_end else place > FAR
            outside = outside or (back and not is_end and place == -1)
        masks[axis] = outside
        places.append(0 if outside else place)
    return np.array(places, np.int64), masks


def _places(t: Translator, name: str, value: Value, axes: list[int], rank: int) -> Any:
    """One number for every axis: those of `value` for `axes`, 0 for the others."""
    known = t.known(value)
    if known is not None:
        numbers = np.zeros(rank, np.int64)
        numbers[axes] = known
        return numbers
    parts: list[Any] = [np.zeros(1, np.int32)] * rank
    for place, axis in enumerate(axes):
        part = {"begin": [place], "end": [place + 1]}
        parts[axis] = t.emit("slice_by_index", f"{name}.{axis}", x=value, **part)
    return t.emit("concat", name, values=parts, axis=0)


_PADDED = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


@handles("Pad")
def _pad(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """Negative amounts cut. Apple's runtimes repeat values along the last two axes alone."""
    name, rank = str(node.name), len(t.shape(args[0]))
    data, amounts, fill, axes = [*args, None, None][:4]
    mode = str(node.attributes.get_string("mode", "constant"))
    pairs = _pairs(t, amounts, axes, rank)
    if any(amount < 0 for amount in pairs):
        places = {
            "begin": [max(0, -begin) for begin in pairs[::2]],
            "end": [min(0, end) for end in pairs[1::2]],
            "end_mask": [end >= 0 for end in pairs[1::2]],
        }
        data = t.emit("slice_by_index", f"{name}.cut", x=data, **places)
        pairs = [max(0, amount) for amount in pairs]
    if mode == "constant":
        number = t.array(fill).reshape(-1)[0] if fill is not None else 0
        if t.is_int(data):
            return _surrounded(t, name, data, pairs, np.int32(number))
        return t.emit("pad", name, x=data, pad=pairs, mode=mode, constant_val=float(number))
    for axis in range(rank):
        around = pairs[2 * axis : 2 * axis + 2]
        if any(around) and (axis < rank - 2 or mode not in _PADDED):
            places = np.pad(np.arange(int(t.shape(data)[axis])), around, mode)  # type: ignore[call-overload]
            data = t.emit("gather", f"{name}.{axis}", x=data, indices=places, axis=axis)
            pairs[2 * axis : 2 * axis + 2] = [0, 0]
    if not any(pairs):
        return data
    return t.emit("pad", name, x=data, pad=pairs[-4:], mode=_PADDED[mode], constant_val=0.0)


def _surrounded(t: Translator, name: str, data: Value, pairs: list[int], fill: np.int32) -> Any:
    """Integers with constants around them: Core ML pads floats alone."""
    for axis, around in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
        if any(around):
            sizes = t.shape(data)
            shapes = [(*sizes[:axis], amount, *sizes[axis + 1 :]) for amount in around]
            before, after = (np.full([int(n) for n in each], fill) for each in shapes)
            parts = [part for part in (before, data, after) if part.shape[axis] != 0]
            data = t.emit("concat", f"{name}.{axis}", values=parts, axis=axis)
    return data


def _pairs(t: Translator, amounts: Value, axes: Value, rank: int) -> list[int]:
    """The amounts before and after each axis; ONNX lists all those before first."""
    given = t.numbers(amounts)
    chosen = t.numbers(axes) if axes is not None else range(rank)
    pairs = [0] * 2 * rank
    for place, axis in enumerate(chosen):
        pairs[2 * (axis % rank)] = given[place]
        pairs[2 * (axis % rank) + 1] = given[len(given) // 2 + place]
    return pairs
