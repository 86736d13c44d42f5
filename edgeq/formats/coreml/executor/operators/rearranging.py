"""Blocks of places as channels or items, and back; windows; reversed beginnings."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array


@operator("depth_to_space", moves=True)
def depth_to_space(x: Array, block_size: int) -> Array:
    """(n, f²·c, h, w) as (n, c, h·f, w·f): the place in a square is the slowest channel."""
    n, c, h, w = x.shape
    f = int(block_size)
    parts = x.reshape(n, f, f, c // (f * f), h, w)
    return parts.transpose(0, 3, 4, 1, 5, 2).reshape(n, c // (f * f), h * f, w * f)


@operator("space_to_depth", moves=True)
def space_to_depth(x: Array, block_size: int) -> Array:
    """The way back from `depth_to_space`."""
    n, c, h, w = x.shape
    f = int(block_size)
    parts = x.reshape(n, c, h // f, f, w // f, f)
    return parts.transpose(0, 3, 5, 1, 2, 4).reshape(n, c * f * f, h // f, w // f)


@operator("pixel_unshuffle", moves=True)
def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """The way back from `pixel_shuffle`."""
    n, c, h, w = x.shape
    f = int(downscale_factor)
    parts = x.reshape(n, c, h // f, f, w // f, f)
    return parts.transpose(0, 1, 3, 5, 2, 4).reshape(n, c * f * f, h // f, w // f)


@operator("space_to_batch", moves=True)
def space_to_batch(x: Array, block_shape: Array, paddings: Array) -> Array:
    """Padded, and every place of a block an item of its own."""
    n, c, *_ = x.shape
    x = np.pad(x, [(0, 0), (0, 0), *((int(a), int(b)) for a, b in paddings)])
    f, g = (int(size) for size in block_shape)
    h, w = x.shape[2] // f, x.shape[3] // g
    parts = x.reshape(n, c, h, f, w, g).transpose(3, 5, 0, 1, 2, 4)
    return parts.reshape(n * f * g, c, h, w)


@operator("batch_to_space", moves=True)
def batch_to_space(x: Array, block_shape: Array, crops: Array) -> Array:
    """The way back from `space_to_batch`."""
    f, g = (int(size) for size in block_shape)
    n, c, h, w = x.shape
    parts = x.reshape(f, g, n // (f * g), c, h, w).transpose(2, 3, 4, 0, 5, 1)
    whole = parts.reshape(n // (f * g), c, h * f, w * g)
    (top, bottom), (left, right) = ((int(a), int(b)) for a, b in crops)
    return whole[:, :, top : h * f - bottom, left : w * g - right]


@operator("sliding_windows", moves=True)
def sliding_windows(x: Array, axis: int, size: int, stride: int = 1) -> Array:
    """All windows along an axis, which is followed by one of the window's size."""
    place = int(axis) % x.ndim
    windows = sliding_window_view(x, int(size), axis=place)
    chosen = np.take(windows, np.arange(0, windows.shape[place], int(stride)), axis=place)
    return np.moveaxis(chosen, -1, place + 1)


@operator("reverse_sequence", moves=True)
def reverse_sequence(x: Array, lengths: Array, seq_axis: int = 0, batch_axis: int = 0) -> Array:
    """Reverse the first `lengths[i]` places of item i."""
    items = np.moveaxis(np.array(x), (int(batch_axis), int(seq_axis)), (0, 1))
    for item, length in zip(items, lengths, strict=True):
        item[: int(length)] = item[: int(length)][::-1].copy()
    return np.moveaxis(items, (0, 1), (int(batch_axis), int(seq_axis)))


@operator("reshape_like", moves=True)
def reshape_like(
    x: Array, ref_tensors: list[Array], begins: Array, ends: Array, end_masks: Array
) -> Array:
    """In the shape of parts of others' shapes, one after the other."""
    shape: list[int] = []
    for other, begin, end, is_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += other.shape[int(begin) : None if is_end else int(end)]
    return x.reshape(shape)
