"""Order: the largest elements, and the order of all. Of equals the first comes first."""

from __future__ import annotations

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import Outputs, operator
from edgeq.formats.coreml.executor.types import Array


@operator("argsort")
def argsort(x: Array, axis: int = -1, ascending: bool = False) -> Array:
    """The places of the elements along `axis`, in the order of their values."""
    return np.argsort(x if ascending else -x, axis=int(axis), kind="stable")


@operator("topk")
def topk(
    x: Array,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Outputs | Array:
    """The `k` largest (smallest, if `ascending`) along `axis`, and where they are.

    They come sorted also when the program does not ask for that: any order is then right.
    """
    places = np.take(argsort(x, axis, ascending), np.arange(int(k)), axis=int(axis))
    values = np.take_along_axis(x, places, axis=int(axis))
    return (values, places) if return_indices else values
