"""Values between the pixels of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats.coreai.operators.elementwise import floor
from edgeq.formats.coreai.operators.registry import FAR, Value, like, lowers, signed, sizes, widened
from edgeq.formats.coreai.operators.shapes import tile


@lowers("resample")
def _resample(
    a: Any,
    x: Value,
    coordinates: Value,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Value,
    coordinates_mode: str,
    align_corners: bool,
) -> Value:
    """Places are (column, row), from -1 to 1; outside is 0 if the padding is constant."""
    del padding_value, coordinates_mode
    height, width = sizes(x)[-2:]
    is_constant = padding_mode == "constant"
    places = []
    for n, size in ((0, width), (1, height)):
        place = _pixels(a, _part(a, widened(a, coordinates), n), size, bool(align_corners))
        if padding_mode in ("reflection", "symmetric"):
            place = _reflected(a, place, size, padding_mode == "reflection")
        places.append(place if is_constant else _clipped(a, place, size))
    columns, rows = places
    if sampling_mode == "nearest":
        return _pixel(a, x, a.round_(rows), a.round_(columns), None, is_constant)
    left, top = floor(a, columns), floor(a, rows)
    across, down = a.broadcasting_sub(columns, left), a.broadcasting_sub(rows, top)
    total = None
    for row, of_row in ((top, _rest(a, down)), (_next(a, top), down)):
        for column, of_column in ((left, _rest(a, across)), (_next(a, left), across)):
            share = a.broadcasting_mul(of_row, of_column)
            part = _pixel(a, x, row, column, share, is_constant)
            total = part if total is None else a.broadcasting_add(total, part)
    return total


def _part(a: Any, coordinates: Value, n: int) -> Value:
    begin, end = [0, 0, 0, n], [FAR, FAR, FAR, n + 1]
    part = a.slice_(coordinates, signed(begin), signed(end), signed([1] * 4))
    return a.shrink_dims(part, signed([3]))


def _pixels(a: Any, places: Value, size: int, aligned: bool) -> Value:
    factor, more = ((size - 1) / 2, (size - 1) / 2) if aligned else (size / 2, (size - 1) / 2)
    scaled = a.broadcasting_mul(places, np.float32(factor))
    return a.broadcasting_add(scaled, np.float32(more))


def _reflected(a: Any, places: Value, size: int, at_centres: bool) -> Value:
    low, span = (0.0, size - 1.0) if at_centres else (-0.5, float(size))
    away = a.abs_(a.broadcasting_sub(places, np.float32(low)))
    if span == 0:
        return a.broadcasting_mul(away, np.float32(0))
    turns = floor(a, a.broadcasting_mul(away, np.float32(0.5 / span)))
    rest = a.broadcasting_sub(away, a.broadcasting_mul(turns, np.float32(2 * span)))
    back = a.broadcasting_sub(np.float32(2 * span), rest)
    return a.broadcasting_add(a.broadcasting_minimum(rest, back), np.float32(low))


def _clipped(a: Any, places: Value, size: int) -> Value:
    above = a.broadcasting_maximum(places, np.float32(0))
    return a.broadcasting_minimum(above, np.float32(size - 1))


def _rest(a: Any, share: Value) -> Value:
    return a.broadcasting_sub(like(share, 1), share)


def _next(a: Any, place: Value) -> Value:
    return a.broadcasting_add(place, like(place, 1))


def _pixel(
    a: Any, x: Value, rows: Value, columns: Value, share: Value | None, is_constant: bool
) -> Value:
    """Pixels at whole places, times a share; at the nearest, or 0, for those outside."""
    count, channels, height, width = sizes(x)
    _, *across = sizes(rows)
    row, column = _clipped(a, rows, height), _clipped(a, columns, width)
    place = a.broadcasting_add(a.broadcasting_mul(row, np.float32(width)), column)
    flat = a.reshape(a.cast(place, np.int32), signed([count, 1, int(np.prod(across))]))
    lines = a.reshape(x, signed([count, channels, height * width]))
    found = a.gather_along_axis(lines, tile(a, flat, [1, channels, 1]), np.array(2, np.int32))
    found = a.reshape(found, signed([count, channels, *across]))
    for whole, kept in ((rows, row), (columns, column)) if is_constant else ():
        inside = a.cast(a.broadcasting_equal(whole, kept), np.float32)
        share = inside if share is None else a.broadcasting_mul(share, inside)
    return found if share is None else a.broadcasting_mul(found, a.expand_dims(share, signed([1])))
