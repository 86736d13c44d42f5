"""Operators that move values: shapes, slices, gathering, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.formats.coreai.operators.registry import (
    FAR,
    Value,
    known,
    like,
    lowers,
    rank,
    signed,
    sizes,
    unsigned,
    without,
)
from edgeq.formats.coreai.write_constants import constant


@lowers("transpose")
def transposed(a: Any, x: Value, perm: Value) -> Value:
    return a.transpose(x, unsigned([axis % rank(x) for axis in known(perm)]))


@lowers("reshape")
def _reshape(a: Any, x: Value, shape: Value) -> Value:
    return a.reshape(x, signed(shape))


@lowers("squeeze")
def _squeeze(a: Any, x: Value, axes: Value) -> Value:
    return without(a, x, axes, keep_dims=False)


@lowers("expand_dims")
def _expand_dims(a: Any, x: Value, axes: Value) -> Value:
    return a.expand_dims(x, signed(known(axes)))


@lowers("concat")
def _concat(a: Any, values: Sequence[Value], axis: Value) -> Value:
    if len(values) == 1:
        return values[0]
    parts = [constant(each) if isinstance(each, np.ndarray) else each for each in values]
    return a.concat(np.array(int(axis), np.int32), parts)


@lowers("split")
def _split(
    a: Any, x: Value, axis: Value, split_sizes: Value = None, num_splits: Value = None
) -> list[Value]:
    place = int(axis) % rank(x)
    if split_sizes is None:
        size, count = sizes(x)[place], int(num_splits)
        if size < 0 or size % count:
            raise ValueError("it splits an axis into parts of unknown sizes")
        split_sizes = [size // count] * count
    if len(split_sizes) == 1:
        return [x]
    return list(a.split(x, unsigned(split_sizes), np.array(place, np.int32)))


@lowers("shape")
def _shape(a: Any, x: Value) -> Value:
    return a.cast(a.get_shape(x), np.int32)


@lowers("tile")
def tile(a: Any, x: Value, reps: Value) -> Value:
    return a.tile(x, unsigned(known(reps)))


@lowers("fill")
def _fill(a: Any, shape: Value, value: Value) -> Value:
    (rank_of,) = sizes(shape)
    return a.broadcast_to(np.reshape(value, [1] * rank_of), signed(shape))


@lowers("range_1d")
def _range(a: Any, start: Value, end: Value, step: Value) -> Value:
    return a.range_(start, end, step)


@lowers("gather")
def _gather(a: Any, x: Value, indices: Value, axis: Value) -> Value:
    """`gather_nd` takes along the first axis: another one is moved there, and back."""
    place, width = int(axis) % rank(x), rank(indices)
    if place:
        x = transposed(a, x, [place, *[n for n in range(rank(x)) if n != place]])
    places = a.expand_dims(indices, signed([-1])) if width else a.reshape(indices, signed([1]))
    found = a.gather_nd(x, places)
    if not place:
        return found
    taken, kept = list(range(width)), list(range(width, rank(found)))
    return transposed(a, found, [*kept[:place], *taken, *kept[place:]])


@lowers("slice_by_index")
def _slice(
    a: Any,
    x: Value,
    begin: Value,
    end: Value,
    stride: Value = None,
    begin_mask: Value = None,
    end_mask: Value = None,
) -> Value:
    """Backwards, the axis is reversed first: Apple's own slices end before the first element."""
    count = rank(x)
    steps = known(stride) if stride is not None else [1] * count
    turned = [axis for axis, step in enumerate(steps) if step < 0]
    if turned:
        x = a.reverse(x, signed(turned))
        begin, end = (_from_the_back(x, each, turned) for each in (begin, end))
    return a.slice_(
        x,
        _edges(a, begin, [0] * count, begin_mask),
        _edges(a, end, [FAR] * count, end_mask),
        signed(np.abs(steps)),
    )


def _from_the_back(x: Value, places: Value, axes: list[int]) -> list[int]:
    """Places on reversed axes."""
    found = known(places)
    for axis in axes:
        size, place = sizes(x)[axis], found[axis]
        if place >= 0 and size < 0:
            raise ValueError("it goes backwards along an axis of any size")
        found[axis] = max(size - 1 - place, 0) if place >= 0 else -1 - place
    return found


def _edges(a: Any, places: Value, outermost: list[int], mask: Value) -> Value:
    """Where a slice begins or ends on each axis; at the very edge where the mask says so."""
    at_edge = np.asarray([False] * len(outermost) if mask is None else mask, np.bool_)
    if hasattr(places, "type"):
        if not at_edge.any():
            return places
        return a.broadcasting_where(at_edge, signed(outermost), places)
    return np.where(at_edge, outermost, known(places)).astype(np.int32)


@lowers("slice_update")
def _slice_update(
    a: Any,
    x: Value,
    update: Value,
    begin: Value,
    end: Value,
    begin_mask: Value = None,
    end_mask: Value = None,
) -> Value:
    count = rank(x)
    first = _edges(a, begin, [0] * count, begin_mask)
    last = _edges(a, end, list(sizes(x)), end_mask)
    return a.slice_update(x, first, last, signed([1] * count), update)


@lowers("pad")
def _pad(a: Any, x: Value, pad: Value, mode: str, constant_val: Value) -> Value:
    pairs = known(pad)
    whole = [0] * (2 * rank(x) - len(pairs)) + pairs  # of the last axes
    if any(amount < 0 for amount in whole):
        raise ValueError("it cuts instead of padding")
    return a.pad(x, unsigned(whole), like(x, float(np.asarray(constant_val))), mode)
