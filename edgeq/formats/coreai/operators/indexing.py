"""Operators that read, write or order values by index, and images in other sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats.apple.interpolation import bilinear
from edgeq.formats.coreai.operators.registry import FAR, Value, lowers, rank, signed, sizes
from edgeq.formats.coreai.operators.shapes import tile, transposed
from edgeq.formats.coreai.write_constants import constant


@lowers("reverse")
def _reverse(a: Any, x: Value, axes: Value) -> Value:
    return a.reverse(x, signed(axes))


@lowers("gather_along_axis")
def _gather_along_axis(a: Any, x: Value, indices: Value, axis: Value) -> Value:
    return a.gather_along_axis(x, indices, np.array(int(axis), np.int32))


@lowers("gather_nd")
def _gather_nd(a: Any, x: Value, indices: Value) -> Value:
    return a.gather_nd(x, indices)


@lowers("scatter_along_axis")
def _scatter_along_axis(
    a: Any, data: Value, indices: Value, updates: Value, axis: Value, mode: str
) -> Value:
    whole = constant(data) if isinstance(data, np.ndarray) else data
    place = np.array(int(axis), np.int32)
    return a.scatter_along_axis(whole.type, whole, indices, updates, place, scatter_mode=mode)


@lowers("scatter_nd")
def _scatter_nd(a: Any, data: Value, indices: Value, updates: Value, mode: str) -> Value:
    if mode != "update":
        raise ValueError(f"it combines values by {mode!r}")
    return a.scatter_nd(data, indices, updates)


@lowers("topk")
def _topk(a: Any, x: Value, k: Value, axis: Value, ascending: bool) -> list[Value]:
    place, order = np.array(int(axis), np.int32), np.array(not ascending)
    ends = [int(k) if n == int(axis) else FAR for n in range(rank(x))]
    part = signed([0] * rank(x)), signed(ends), signed([1] * rank(x))
    places = a.slice_(a.argsort(x, place, order, np.array(True)), *part)
    places = a.cast(places, np.int32)
    return [a.gather_along_axis(x, places, place), places]


@lowers("upsample_nearest_neighbor")
def _upsample(a: Any, x: Value, scale_factor_height: Value, scale_factor_width: Value) -> Value:
    """Each value of (…, height, width) as a block of itself."""
    count, rows, columns = rank(x), int(scale_factor_height), int(scale_factor_width)
    factors = np.array([1] * (count - 2) + [rows, columns], np.int32)
    is_free = any(size < 0 for size in sizes(x))
    own: Value = a.cast(a.get_shape(x), np.int32) if is_free else np.array(sizes(x), np.int32)
    shape = a.broadcasting_mul(own, factors) if is_free else own * factors
    apart = a.expand_dims(x, signed([count - 1, count + 1]))
    blocks = tile(a, apart, [1] * (count - 1) + [rows, 1, columns])
    return a.reshape(blocks, shape)


@lowers("resize_bilinear")
def _resize(
    a: Any, x: Value, target_size_height: Value, target_size_width: Value, sampling_mode: str
) -> Value:
    """A product with the weights of pixels, of rows and of columns."""
    height, width = sizes(x)[-2:]
    rows = bilinear(height, int(target_size_height), sampling_mode)
    columns = bilinear(width, int(target_size_width), sampling_mode)
    kind = np.float16 if str(x.type.dtype) == "f16" else np.float32
    tall = a.broadcasting_batch_matmul(constant(rows.astype(kind)), x)
    return a.broadcasting_batch_matmul(tall, constant(np.ascontiguousarray(columns.T, kind)))


@lowers("depth_to_space")
def _depth_to_space(a: Any, x: Value, block_size: Value) -> Value:
    """The place in a square is the slowest channel."""
    f, (n, c, h, w) = int(block_size), sizes(x)
    parts = a.reshape(x, signed([n, f, f, c // (f * f), h, w]))
    moved = transposed(a, parts, [0, 3, 4, 1, 5, 2])
    return a.reshape(moved, signed([n, c // (f * f), h * f, w * f]))


@lowers("pixel_shuffle")
def _pixel_shuffle(a: Any, x: Value, upscale_factor: Value) -> Value:
    """The place in a square is the fastest channel."""
    f, (n, c, h, w) = int(upscale_factor), sizes(x)
    parts = a.reshape(x, signed([n, c // (f * f), f, f, h, w]))
    moved = transposed(a, parts, [0, 1, 4, 2, 5, 3])
    return a.reshape(moved, signed([n, c // (f * f), h * f, w * f]))


@lowers("space_to_depth")
def _space_to_depth(a: Any, x: Value, block_size: Value) -> Value:
    f, (n, c, h, w) = int(block_size), sizes(x)
    parts = a.reshape(x, signed([n, c, h // f, f, w // f, f]))
    moved = transposed(a, parts, [0, 3, 5, 1, 2, 4])
    return a.reshape(moved, signed([n, c * f * f, h // f, w // f]))
