"""Convolution and pooling, over one, two or three axes of places.

Tensors are (items, channels, places…). A window is a view into the padded input, so that a
convolution is one product of matrices for each group of channels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array

Pads = list[tuple[int, int]]
Pooling = tuple[list[int], list[int], Pads]
"""Lengths of a window, steps between windows, and padding, by axis of places."""


@operator("conv")
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: int = 1,
) -> Array:
    """weight (outputs, inputs / groups, kernel…), bias (outputs,)."""
    kernel = weight.shape[2:]
    steps, gaps = _each(strides, len(kernel)), _each(dilations, len(kernel))
    reach = [(k - 1) * gap + 1 for k, gap in zip(kernel, gaps, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *_pads(pad_type, pad, x.shape[2:], reach, steps)])
    windows = _windows(padded, reach, steps, gaps)
    n, parts, places = len(x), int(groups), windows.shape[2 : 2 + len(kernel)]
    # (items, groups, places, inputs of a group · kernel) times (groups, the same, outputs)
    order = (0, 1, *range(3, 3 + len(kernel)), 2, *range(3 + len(kernel), windows.ndim + 1))
    columns = windows.reshape(n, parts, -1, *windows.shape[2:]).transpose(order)
    columns = columns.reshape(n, parts, math.prod(places), -1)
    matrix = weight.reshape(parts, len(weight) // parts, -1).swapaxes(1, 2)
    result = np.matmul(columns, matrix).swapaxes(2, 3).reshape(n, len(weight), *places)
    return _with_bias(result, bias)


@operator("conv_transpose")
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Array | None = None,
    output_shape: Array | None = None,
    pad_type: str = "valid",
    strides: Array | None = None,
    dilations: Array | None = None,
    groups: int = 1,
) -> Array:
    """weight (inputs, outputs / groups, kernel…): every value adds the kernel, times itself."""
    kernel, lengths, parts = weight.shape[2:], x.shape[2:], int(groups)
    steps, gaps = _each(strides, len(kernel)), _each(dilations, len(kernel))
    spans = [(n - 1) * step + 1 for n, step in zip(lengths, steps, strict=True)]
    whole = [s + (k - 1) * gap for s, k, gap in zip(spans, kernel, gaps, strict=True)]
    columns = x.reshape(len(x), parts, -1, math.prod(lengths))
    matrix = weight.reshape(parts, len(weight) // parts, -1, math.prod(kernel))
    full = np.zeros((len(x), parts, matrix.shape[2], *whole), np.float32)
    for tap, offset in enumerate(np.ndindex(*kernel)):
        product = np.matmul(matrix[..., tap].swapaxes(1, 2), columns)
        starts = [o * gap for o, gap in zip(offset, gaps, strict=True)]
        place = [slice(a, a + s, n) for a, s, n in zip(starts, spans, steps, strict=True)]
        full[(slice(None),) * 3 + tuple(place)] += product.reshape(*product.shape[:3], *lengths)
    full = full.reshape(len(x), -1, *whole)
    wanted = None if output_shape is None else [int(n) for n in output_shape[2:]]
    if wanted is None and pad_type.startswith("same"):
        wanted = [n * step for n, step in zip(lengths, steps, strict=True)]
    sides = _pads("valid" if wanted else pad_type, pad, lengths, [], [])
    if wanted:
        rest = [n - size for n, size in zip(whole, wanted, strict=True)]
        sides = [
            (n - n // 2, n // 2) if pad_type == "same_lower" else (n // 2, n - n // 2) for n in rest
        ]
    full = np.pad(full, [(0, 0), (0, 0), *((max(0, -a), max(0, -b)) for a, b in sides)])
    kept = [
        slice(max(0, a), n - max(0, b)) for (a, b), n in zip(sides, full.shape[2:], strict=True)
    ]
    result = full[(slice(None), slice(None), *kept)]
    return _with_bias(result, bias)


@operator("max_pool")
def max_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    ceil_mode: bool = False,
) -> Array:
    """The largest value of each window."""
    pooling = _pooling(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return np.asarray(_pooled(x, pooling, -np.inf).max(axis=_last(x.ndim - 2)))


@operator("avg_pool")
def avg_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Array:
    """The mean of each window; padding counts as zeros, or not at all.

    What `ceil_mode` adds at the end to make the last window whole never counts.
    """
    pooling = kernel, steps, pads = _pooling(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    _, _, plain = _pooling(x, kernel_sizes, strides, pad_type, pad, False)
    total = _pooled(x, pooling)
    # A 1 wherever a value counts: the input, and its padding unless that is left out.
    counts = np.ones(x.shape[2:], np.float32)
    rest = pads
    if not exclude_padding_from_average:
        counts = np.pad(counts, plain, constant_values=1)
        rest = [(0, a - b) for (_, a), (_, b) in zip(pads, plain, strict=True)]
    counted = _pooled(counts[None, None], (kernel, steps, rest))
    over = _last(len(kernel))
    return np.asarray(total.sum(axis=over) / counted.sum(axis=over))


@operator("l2_pool")
def l2_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    ceil_mode: bool = False,
) -> Array:
    """The root of the sum of squares of each window."""
    pooling = _pooling(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return np.asarray(np.sqrt(_pooled(x * x, pooling).sum(axis=_last(x.ndim - 2))))


def _pooling(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None,
    pad_type: str,
    pad: Array | None,
    ceil_mode: bool,
) -> Pooling:
    kernel = [int(k) for k in kernel_sizes]
    steps = _each(strides, len(kernel))
    pads = _pads(pad_type, pad, x.shape[2:], kernel, steps)
    if ceil_mode:
        for axis, (before, after) in enumerate(pads):
            length = x.shape[2 + axis]
            rest = (length + before + after - kernel[axis]) % steps[axis]
            last = length + before + after - rest - kernel[axis] + steps[axis]
            # A window more, if it starts within the input or the padding before it.
            if rest and last < length + before:
                pads[axis] = (before, after + steps[axis] - rest)
    return kernel, steps, pads


def _pooled(x: Array, pooling: Pooling, fill: float = 0.0) -> Array:
    """The windows of `x`, padded with `fill`."""
    kernel, steps, pads = pooling
    padded = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    return _windows(padded, kernel, steps, [1] * len(kernel))


def _with_bias(x: Array, bias: Array | None) -> Array:
    return np.asarray(x if bias is None else x + bias.reshape(-1, *[1] * (x.ndim - 2)))


def _pads(
    kind: str, pad: Array | None, lengths: tuple[int, ...], reach: list[int], steps: list[int]
) -> Pads:
    """(before, after) for each axis of places. `reach` is how far a window goes."""
    if kind == "valid":
        return [(0, 0)] * len(lengths)
    if kind == "custom":
        sides = np.zeros((len(lengths), 2)) if pad is None else np.reshape(pad, (-1, 2))
        return [(int(before), int(after)) for before, after in sides]
    pads = []
    for length, far, step in zip(lengths, reach, steps, strict=True):
        missing = max((-(-length // step) - 1) * step + far - length, 0)
        less, more = missing // 2, missing - missing // 2
        pads.append({"same": (less, more), "same_lower": (more, less)}[kind])
    return pads


def _windows(x: Array, reach: list[int], steps: list[int], gaps: list[int]) -> Array:
    """A view (items, channels, places…, kernel…) of `x`."""
    rank = len(reach)
    axes = tuple(range(2, 2 + rank))
    view = sliding_window_view(x, tuple(reach), axis=axes)  # type: ignore[call-overload]
    every = [slice(None, None, n) for n in (*steps, *gaps)]
    return np.asarray(view[(slice(None), slice(None), *every)])


def _each(values: Array | None, rank: int) -> list[int]:
    return [1] * rank if values is None else [int(v) for v in values]


def _last(rank: int) -> tuple[int, ...]:
    return tuple(range(-rank, 0))
