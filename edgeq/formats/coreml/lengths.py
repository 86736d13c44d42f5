"""Pad texts for programs with a few fixed lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeq.formats.base import Array

if TYPE_CHECKING:
    from edgeq.formats.coreml.executor import Input


def filled(array: Array, length: int) -> Array:
    """`array` padded with zeros along its last axis to `length`; its mask must exclude them."""
    missing = length - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])


def fitted(array: Array, value: Input) -> Array:
    """A sample as an input takes it: texts are filled up, or cut, to a length it can have."""
    if value.allows(array.shape):
        return array
    lengths = lengths_of(value)
    length = next_length(value, array.shape[-1]) or lengths[-1]
    return filled(array[..., :length], length)


def lengths_of(value: Input) -> tuple[int, ...]:
    """The possible lengths of an input's last axis, ascending."""
    if value.shapes:
        return tuple(sorted({shape[-1] for shape in value.shapes}))
    low, high = value.ranges[-1]
    return (low,) if high is None else tuple(range(low, high + 1))


def next_length(value: Input, tokens: int) -> int | None:
    """The shortest length for this many tokens; None if there is none."""
    return next((length for length in lengths_of(value) if length >= tokens), None)
