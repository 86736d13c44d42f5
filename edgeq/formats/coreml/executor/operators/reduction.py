"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array


def _log_sum_exp(x: Array, axis: Any, keepdims: bool) -> Array:
    highest = np.max(x, axis=axis, keepdims=True)
    total = np.log(np.sum(np.exp(x - highest), axis=axis, keepdims=True)) + highest
    return np.asarray(total if keepdims else np.squeeze(total, axis=axis))


_OVER_AXES: dict[str, Callable[..., Any]] = {
    "reduce_l1_norm": lambda x, **over: np.sum(np.abs(x), **over),
    "reduce_l2_norm": lambda x, **over: np.sqrt(np.sum(np.square(x), **over)),
    "reduce_log_sum": lambda x, **over: np.log(np.sum(x, **over)),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": np.max,
    "reduce_mean": np.mean,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "reduce_sum_square": lambda x, **over: np.sum(np.square(x), **over),
}


def _over_axes(function: Callable[..., Any]) -> Callable[..., Array]:
    def reduce(x: Array, axes: Array | None = None, keep_dims: bool = False) -> Array:
        over = None if axes is None else tuple(int(a) for a in axes)
        return np.asarray(function(x, axis=over, keepdims=bool(keep_dims)))

    return reduce


def _place(function: Callable[..., Any]) -> Callable[..., Array]:
    def reduce(
        x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
    ) -> Array:
        return np.asarray(function(x, axis=int(axis), keepdims=bool(keep_dims)))

    return reduce


for _name, _function in _OVER_AXES.items():
    operator(_name)(_over_axes(_function))
operator("reduce_argmax")(_place(np.argmax))
operator("reduce_argmin")(_place(np.argmin))


@operator("cumsum")
def cumsum(x: Array, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    """Running sums along `axis`; exclusive ones leave out the element itself."""
    line = np.flip(x, int(axis)) if reverse else x
    total = np.cumsum(line, axis=int(axis), dtype=x.dtype)
    if exclusive:
        total = total - line
    return np.flip(total, int(axis)) if reverse else total
