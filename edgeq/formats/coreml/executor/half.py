"""Rounding to fp16, several times as fast as numpy's conversion there and back."""

from __future__ import annotations

import numpy as np

from edgeq.formats.coreml.executor.types import Array

_DROPPED = 13  # bits of a float32's fraction beyond fp16's precision
_SMALLEST_NORMAL = np.float32(2.0**-14)
_OVERFLOWS = 65520.0  # halfway from fp16's largest number to the next power of two


def rounded(values: Array) -> Array:
    """`values`, floats of any shape, as float32 rounded to fp16: nearest, ties to even.

    Equal to `values.astype(np.float16).astype(np.float32)`, bit by bit.
    """
    size = np.abs(values)
    if values.dtype != np.float32 or not size.size or not size.max() < _OVERFLOWS:
        return values.astype(np.float16).astype(np.float32)
    bits = values.view(np.uint32)
    half = ((bits >> np.uint32(_DROPPED)) & np.uint32(1)) + np.uint32((1 << (_DROPPED - 1)) - 1)
    normal = ((bits + half) & np.uint32(0xFFFFFFFF << _DROPPED & 0xFFFFFFFF)).view(np.float32)
    # Below its normal numbers fp16 is as fine as float32 is from 0.5 to 1: an addition rounds.
    tiny = np.copysign((size + np.float32(0.5)) - np.float32(0.5), values)
    return np.where(size < _SMALLEST_NORMAL, tiny, normal)
