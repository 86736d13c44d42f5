"""Texts for programs that take a few lengths only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeq.formats.base import Array

if TYPE_CHECKING:
    from edgeq.formats.coreml.executor import Input


def filled(array: Array, length: int) -> Array:
    """`array` with zeros behind its last axis up to `length`, which its mask must tell apart."""
    missing = length - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])


def lengths_of(value: Input) -> tuple[int, ...]:
    """The lengths that the last axis of an input can have, rising."""
    if value.shapes:
        return tuple(sorted({shape[-1] for shape in value.shapes}))
    low, high = value.ranges[-1]
    return (low,) if high is None else tuple(range(low, high + 1))


def next_length(value: Input, tokens: int) -> int | None:
    """The shortest length that holds so many tokens; None where none does."""
    return next((length for length in lengths_of(value) if length >= tokens), None)
