"""Quantized activations: rounding to 8-bit codes and back."""

from __future__ import annotations

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import BY_NAME, Array


@operator("quantize")
def quantize(
    input: Array,
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Array:
    """`round(input / scale) + zero_point`, clipped to int8 or uint8."""
    codes = np.round(input / _along(scale, input, axis))
    if zero_point is not None:
        codes = codes + _along(zero_point, input, axis)
    limits = np.iinfo(BY_NAME[output_dtype].storage)
    return np.clip(codes, limits.min, limits.max)


@operator("dequantize")
def dequantize(
    input: Array,
    scale: Array,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Array:
    """`(input − zero_point) · scale`."""
    codes = input.astype(np.float32)
    if zero_point is not None:
        codes = codes - _along(zero_point, input, axis)
    return codes * _along(scale, input, axis)


def _along(parameter: Array, x: Array, axis: int | None) -> Array:
    """A scalar, or one value for each index of `axis`, so shaped that it broadcasts over `x`."""
    values = parameter.astype(np.float32)
    if not values.ndim or axis is None:
        return values
    shape = [1] * x.ndim
    shape[int(axis)] = -1
    return values.reshape(shape)
