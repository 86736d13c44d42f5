"""Resizing along an axis as a matrix `(output, input)`, one for each of Apple's sampling modes."""

from __future__ import annotations

import numpy as np

from edgeq.quantize.number_formats import Floats

MODES = ("UNALIGN_CORNERS", "STRICT_ALIGN_CORNERS", "DEFAULT", "ALIGN_CORNERS", "OFFSET_CORNERS")
"""The sampling modes of the MIL's `resize_bilinear`, as documented; the most common first."""


def bilinear(size: int, count: int, mode: str) -> Floats:
    """Weights of `size` values for each of `count` places between them.

    >>> bilinear(2, 4, "UNALIGN_CORNERS").tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    places = np.clip(places_of(size, count, mode), 0, size - 1)
    low = np.floor(places).astype(np.int64)
    high, share = np.minimum(low + 1, size - 1), places - low
    rows = np.arange(count)
    matrix = np.zeros((count, size))
    matrix[rows, low] += 1 - share
    matrix[rows, high] += share
    return matrix.astype(np.float32)


def places_of(size: float, count: int, mode: str) -> np.ndarray:
    """`count` places in a row of `size` values, of which the first is at 0."""
    steps = np.arange(count, dtype=np.float64)
    if mode == "UNALIGN_CORNERS":
        return steps * size / count + 0.5 * size / count - 0.5
    if mode == "DEFAULT":
        return steps * size / count
    if mode == "OFFSET_CORNERS":
        step = max(1, size - 1) / count
        return steps * step + 0.5 * step
    if count == 1:
        return np.full(1, (size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0)
    return steps * (size - 1) / (count - 1)
