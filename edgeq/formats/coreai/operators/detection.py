"""The choice among boxes that overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats.coreai.operators.loops import repeated
from edgeq.formats.coreai.operators.registry import Value, lowers, signed, sizes
from edgeq.formats.coreai.write_constants import constant

_LOWEST = np.finfo(np.float32).min
_GONE = np.array(-np.inf, np.float32)  # the score of boxes that are kept or suppressed


@lowers("non_maximum_suppression")
def _suppress(
    a: Any, boxes: Value, scores: Value, iou_threshold: Value, max_boxes: Value
) -> list[Value]:
    """The best box of each row, again and again, without those that overlap it.

    boxes: (rows, 4, boxes), centre and size; scores: (rows, 1, boxes), of one class. Results are
    boxes and scores of those kept, and their numbers; unused places have the number -1.
    """
    rows, classes, count = sizes(scores)
    if classes != 1:
        raise ValueError("it compares boxes of several classes")
    kept = int(max_boxes)
    corners = _corners(a, boxes, (rows, count))
    rated = a.broadcasting_maximum(a.reshape(scores, signed([rows, count])), _LOWEST)
    numbers, places = (np.arange(size, dtype=np.int32)[None] for size in (count, kept))

    def goes_on(index: Value, left: Value, chosen: Value) -> Value:
        best = a.reshape(a.reduce_max(left, signed([0, 1])), signed([]))
        return a.broadcasting_and(
            a.broadcasting_greater(np.array(kept, np.int32), index),
            a.broadcasting_greater(best, _GONE),
        )

    def step(index: Value, left: Value, chosen: Value) -> list[Value]:
        place = a.cast(a.argmax(left, np.array(1, np.int32)), np.int32)
        is_left = a.broadcasting_greater(a.reduce_max(left, signed([1])), _GONE)
        share = _overlaps(a, corners, place)
        gone = a.broadcasting_or(
            a.broadcasting_greater(share, np.float32(iou_threshold)),
            a.broadcasting_equal(constant(numbers), place),
        )
        found = a.broadcasting_where(is_left, place, np.array(-1, np.int32))
        is_now = a.broadcasting_equal(constant(places), index)
        return [
            a.broadcasting_add(index, np.array(1, np.int32)),
            a.broadcasting_where(gone, _GONE, left),
            a.broadcasting_where(is_now, found, chosen),
        ]

    nothing = np.full((rows, kept), -1, np.int32)
    chosen = repeated(a, [np.array(0, np.int32), rated, nothing], goes_on, step)[2]
    safe = a.expand_dims(a.broadcasting_maximum(chosen, np.array(0, np.int32)), signed([1]))
    last = np.array(2, np.int32)
    return [
        a.gather_along_axis(boxes, a.tile(safe, np.array([1, 4, 1], np.uint32)), last),
        a.gather_along_axis(scores, safe, last),
        chosen,
    ]


def _corners(a: Any, boxes: Value, shape: tuple[int, int]) -> tuple[list[Value], list[Value]]:
    """Lower and upper edges, across and down, each (rows, boxes)."""
    parts = a.split(boxes, np.array([1] * 4, np.uint32), np.array(1, np.int32))
    *centre, width, height = (a.reshape(part, signed(shape)) for part in parts)
    halves = [a.broadcasting_mul(size, np.float32(0.5)) for size in (width, height)]
    pairs = list(zip(centre, halves, strict=True))
    return (
        [a.broadcasting_sub(middle, half) for middle, half in pairs],
        [a.broadcasting_add(middle, half) for middle, half in pairs],
    )


def _overlaps(a: Any, corners: tuple[list[Value], list[Value]], place: Value) -> Value:
    """Intersection over union of one box of each row with all, 0 where they do not touch."""
    lows, highs = corners
    axis = np.array(1, np.int32)
    common = own = other = None
    for low, high in zip(lows, highs, strict=True):
        edge_low, edge_high = (a.gather_along_axis(each, place, axis) for each in (low, high))
        inner = a.broadcasting_sub(
            a.broadcasting_minimum(high, edge_high), a.broadcasting_maximum(low, edge_low)
        )
        common = _times(a, common, a.relu(inner))
        own = _times(a, own, a.broadcasting_sub(edge_high, edge_low))
        other = _times(a, other, a.broadcasting_sub(high, low))
    whole = a.broadcasting_sub(a.broadcasting_add(own, other), common)
    touches = a.broadcasting_greater(common, np.float32(0))
    share = a.broadcasting_divide(common, a.broadcasting_where(touches, whole, np.float32(1)))
    return share


def _times(a: Any, product: Value | None, factor: Value) -> Value:
    return factor if product is None else a.broadcasting_mul(product, factor)
