"""Texts for programs that take a few lengths only."""

from __future__ import annotations

import numpy as np

from edgeq.runners.base import Array


def filled(array: Array, length: int) -> Array:
    """`array` with zeros behind its last axis up to `length`, which its mask must tell apart."""
    missing = length - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])
