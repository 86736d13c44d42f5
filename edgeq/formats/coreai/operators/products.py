"""Products, norms and reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats.coreai.operators.elementwise import subtracted
from edgeq.formats.coreai.operators.registry import (
    Lower,
    Value,
    like,
    lowers,
    named,
    narrowed,
    rank,
    signed,
    widened,
    without,
)
from edgeq.formats.coreai.operators.shapes import transposed

_REDUCTIONS = {
    "reduce_mean": "reduce_mean",
    "reduce_sum": "reduce_sum",
    "reduce_max": "reduce_max",
    "reduce_min": "reduce_min",
    "reduce_prod": "reduce_product",
}


def _reduction(name: str) -> Lower:
    def reduce(a: Any, x: Value, axes: Value, keep_dims: bool = False) -> Value:
        return without(a, getattr(a, name)(x, signed(axes)), axes, keep_dims)

    return reduce


named(_REDUCTIONS, _reduction)


@lowers("softmax")
def _softmax(a: Any, x: Value, axis: Value) -> Value:
    return a.softmax(x, np.array(int(axis) % rank(x), np.int32))


@lowers("matmul")
def _matmul(
    a: Any, x: Value, y: Value, transpose_x: bool = False, transpose_y: bool = False
) -> Value:
    if rank(x) < 2 or rank(y) < 2:
        raise ValueError("it multiplies by a vector")
    return a.broadcasting_batch_matmul(
        _turned(a, x) if transpose_x else x, _turned(a, y) if transpose_y else y
    )


def _turned(a: Any, x: Value) -> Value:
    *before, row, column = range(rank(x))
    return transposed(a, x, [*before, column, row])


@lowers("reduce_l2_norm")
def _length(a: Any, x: Value, axes: Value, keep_dims: bool = False) -> Value:
    wide = widened(a, x)
    total = a.reduce_sum(a.broadcasting_mul(wide, wide), signed(axes))
    return without(a, narrowed(a, a.sqrt(total), x), axes, keep_dims)


@lowers("reduce_l1_norm")
def _sizes(a: Any, x: Value, axes: Value, keep_dims: bool = False) -> Value:
    return without(a, a.reduce_sum(a.abs_(x), signed(axes)), axes, keep_dims)


@lowers("reduce_sum_square")
def _squares(a: Any, x: Value, axes: Value, keep_dims: bool = False) -> Value:
    return without(a, a.reduce_sum(a.broadcasting_mul(x, x), signed(axes)), axes, keep_dims)


@lowers("layer_norm")
def _layer_norm(
    a: Any, x: Value, axes: Value, epsilon: Value, gamma: Value = None, beta: Value = None
) -> Value:
    wide, chosen = widened(a, x), signed(axes)
    centred = a.broadcasting_sub(wide, a.reduce_mean(wide, chosen))
    variance = a.reduce_mean(a.broadcasting_mul(centred, centred), chosen)
    factor = a.rsqrt(a.broadcasting_add(variance, np.float32(epsilon)))
    result = narrowed(a, a.broadcasting_mul(centred, factor), x)
    if gamma is not None:
        result = a.broadcasting_mul(result, gamma)
    return result if beta is None else a.broadcasting_add(result, beta)


@lowers("batch_norm")
def _batch_norm(
    a: Any,
    x: Value,
    mean: Value,
    variance: Value,
    epsilon: Value,
    gamma: Value = None,
    beta: Value = None,
) -> Value:
    def spread(part: Value) -> Value:
        shape = [1, -1, *[1] * (rank(x) - 2)]
        is_known = isinstance(part, np.ndarray)
        return part.reshape(shape) if is_known else a.reshape(part, signed(shape))

    factor = a.rsqrt(a.broadcasting_add(widened(a, variance), np.float32(epsilon)))
    if gamma is not None:
        factor = a.broadcasting_mul(factor, widened(a, gamma))
    centred = subtracted(a, x, spread(mean))
    result = a.broadcasting_mul(centred, spread(narrowed(a, factor, x)))
    return result if beta is None else a.broadcasting_add(result, spread(beta))


@lowers("cumsum")
def _cumsum(a: Any, x: Value, axis: Value, exclusive: bool = False, reverse: bool = False) -> Value:
    total = a.scan(x, np.array(int(axis), np.uint32), np.array(bool(reverse)), combiner="sum")
    return a.broadcasting_sub(total, x) if exclusive else total


@lowers("reduce_argmax")
def _argmax(a: Any, x: Value, axis: Value, keep_dims: bool = False) -> Value:
    place = np.array(int(axis), np.int32)
    return without(a, a.cast(a.argmax(x, place), np.int32), [int(axis)], keep_dims)


@lowers("reduce_argmin")
def _argmin(a: Any, x: Value, axis: Value, keep_dims: bool = False) -> Value:
    return _argmax(a, a.broadcasting_mul(x, like(x, -1)), axis, keep_dims)
