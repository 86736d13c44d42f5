"""Convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.formats.coreai.operators.registry import (
    FAR,
    Lower,
    Value,
    known,
    like,
    lowers,
    numpy_type,
    rank,
    signed,
    sizes,
    unsigned,
)
from edgeq.formats.coreai.write_constants import constant


@lowers("conv")
def _conv(
    a: Any,
    x: Value,
    weight: Value,
    strides: Value,
    dilations: Value,
    groups: Value,
    pad_type: str,
    pad: Value = None,
    bias: Value = None,
) -> Value:
    spatial = rank(x) - 2
    kernel = [
        (size - 1) * step + 1
        for size, step in zip(sizes(weight)[2:], known(dilations), strict=True)
    ]
    pairs = _pairs(x, kernel, known(strides), pad_type, pad)
    padded = _padded(a, x, pairs, 0.0)
    if spatial == 1:  # a row of pixels
        padded, weight = (a.expand_dims(each, signed([2])) for each in (padded, weight))
    kind = {1: "conv2d", 2: "conv2d", 3: "conv3d"}[spatial]
    steps, gaps = ([1] * (spatial == 1) + known(each) for each in (strides, dilations))
    result = getattr(a, kind)(
        padded, weight, unsigned(steps), unsigned(gaps), np.array(int(groups), np.uint32)
    )
    return _with_bias(a, a.shrink_dims(result, signed([2])) if spatial == 1 else result, bias)


@lowers("conv_transpose")
def _conv_transpose(
    a: Any,
    x: Value,
    weight: Value,
    strides: Value,
    dilations: Value,
    groups: Value,
    pad_type: str,
    pad: Value,
    bias: Value = None,
) -> Value:
    """The full result, cut: `pad_type` is `custom`."""
    spatial, steps, gaps = rank(x) - 2, known(strides), known(dilations)
    if spatial == 1:  # a row of pixels
        x, weight = (a.expand_dims(each, signed([2])) for each in (x, weight))
        steps, gaps, pad = [1, *steps], [1, *gaps], [0, 0, *known(pad)]
    none = unsigned([0] * len(steps))
    spread = {2: a.conv_transpose2d, 3: a.conv_transpose3d}[len(steps)]
    parts = np.array(int(groups), np.uint32)
    full = spread(x, weight, unsigned(steps), none, unsigned(gaps), none, parts)
    amounts = known(pad)
    begins, ends = amounts[::2], amounts[1::2]
    result = a.slice_(
        full,
        signed([0, 0, *begins]),
        signed([FAR, FAR, *(-end if end else FAR for end in ends)]),
        signed([1] * rank(full)),
    )
    return _with_bias(a, a.shrink_dims(result, signed([2])) if spatial == 1 else result, bias)


@lowers("max_pool")
def _max_pool(
    a: Any,
    x: Value,
    kernel_sizes: Value,
    strides: Value,
    pad_type: str,
    pad: Value = None,
    ceil_mode: bool = False,
) -> Value:
    kernel, steps = known(kernel_sizes), known(strides)
    if len(kernel) == 1:
        return _as_plane(
            a, _max_pool, x, kernel, steps, pad, pad_type=pad_type, ceil_mode=ceil_mode
        )
    pairs = _pooled_pairs(x, kernel, steps, pad_type, pad, ceil_mode)
    padded = _padded(a, x, pairs, -np.inf)
    counts = [
        (size + sum(pair) - width) // step + 1 if size >= 0 else -1
        for size, pair, width, step in zip(sizes(x)[2:], pairs, kernel, steps, strict=True)
    ]
    output = a.TensorType([*sizes(x)[:2], *counts], x.type.dtype)
    ones = unsigned([1] * len(kernel))
    pool = {2: a.maxpool2d, 3: a.maxpool3d}[len(kernel)]
    return pool(output, padded, unsigned(kernel), unsigned(steps), ones, np.array(False))


@lowers("avg_pool")
def _avg_pool(
    a: Any,
    x: Value,
    kernel_sizes: Value,
    strides: Value,
    pad_type: str,
    exclude_padding_from_average: bool,
    pad: Value = None,
    ceil_mode: bool = False,
) -> Value:
    kernel, steps = known(kernel_sizes), known(strides)
    if len(kernel) == 1:
        more = {"exclude_padding_from_average": exclude_padding_from_average}
        return _as_plane(
            a, _avg_pool, x, kernel, steps, pad, pad_type=pad_type, ceil_mode=ceil_mode, **more
        )
    pairs = _pooled_pairs(x, kernel, steps, pad_type, pad, ceil_mode)
    ones = constant(unsigned([1] * len(kernel)))
    pool = {2: a.sumpool2d, 3: a.sumpool3d}[len(kernel)]
    total = pool(_padded(a, x, pairs, 0.0), unsigned(kernel), unsigned(steps), ones)
    stated = _pooled_pairs(x, kernel, steps, pad_type, pad, ceil_mode=False)
    counted = [(0, 0)] * len(kernel) if exclude_padding_from_average else stated
    return a.broadcasting_divide(total, _counts(x, kernel, steps, pairs, counted))


def _counts(
    x: Value,
    kernel: Sequence[int],
    steps: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    counted: Sequence[tuple[int, int]],
) -> Any:
    """How many values each average is of. counted: padding that counts like values."""
    if not any(map(any, pairs)):
        return np.array(np.prod(kernel), numpy_type(x))
    totals: Any = np.ones((), np.float64)
    for size, width, step, pair, own in zip(_sides(x), kernel, steps, pairs, counted, strict=True):
        line = np.zeros(size + sum(pair))
        line[pair[0] - own[0] : pair[0] + size + own[1]] = 1
        starts = range(0, len(line) - width + 1, step)
        along = np.array([line[start : start + width].sum() for start in starts])
        totals = np.multiply.outer(totals, along)
    return totals[None, None].astype(numpy_type(x))


def _as_plane(
    a: Any,
    pool: Lower,
    x: Value,
    kernel: list[int],
    steps: list[int],
    pad: Value,
    **more: Any,
) -> Value:
    """A line of values as a row of pixels."""
    sides = None if pad is None else [0, 0, *known(pad)]
    plane = a.expand_dims(x, signed([2]))
    found = pool(a, plane, [1, *kernel], [1, *steps], pad=sides, **more)
    return a.shrink_dims(found, signed([2]))


def _pooled_pairs(
    x: Value,
    kernel: Sequence[int],
    steps: Sequence[int],
    pad_type: str,
    pad: Value,
    ceil_mode: bool,
) -> list[tuple[int, int]]:
    """Padding of each axis; with `ceil_mode`, enough for a last window that is not full."""
    pairs = _pairs(x, kernel, steps, pad_type, pad)
    if not ceil_mode:
        return pairs
    whole = []
    for (begin, end), size, width, step in zip(pairs, _sides(x), kernel, steps, strict=True):
        windows = -(-(size + begin + end - width) // step)
        if windows * step >= size + begin:  # it would begin in the padding
            windows -= 1
        whole.append((begin, max(end, windows * step + width - size - begin)))
    return whole


def _pairs(
    x: Value, kernel: Sequence[int], steps: Sequence[int], pad_type: str, pad: Value
) -> list[tuple[int, int]]:
    """Padding before and after each axis of an image."""
    if pad_type == "valid" or (pad_type == "custom" and pad is None):
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        amounts = known(pad)
        return list(zip(amounts[::2], amounts[1::2], strict=True))
    pairs = []
    for size, width, step in zip(_sides(x), kernel, steps, strict=True):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        less, more = total // 2, total - total // 2
        pairs.append((less, more) if pad_type == "same" else (more, less))
    return pairs


def _sides(x: Value) -> list[int]:
    """The sizes of an image. Raises ValueError if one depends on the input."""
    sides = list(sizes(x)[2:])
    if min(sides) < 0:
        raise ValueError("the size of its image depends on the input")
    return sides


def _padded(a: Any, x: Value, pairs: Sequence[tuple[int, int]], fill: float) -> Value:
    if not any(map(any, pairs)):
        return x
    amounts = [0, 0, 0, 0, *(amount for pair in pairs for amount in pair)]
    return a.pad(x, unsigned(amounts), like(x, fill), "constant")


def _with_bias(a: Any, x: Value, bias: Value) -> Value:
    if bias is None:
        return x
    return a.broadcasting_add(x, a.reshape(bias, signed([1, -1, *[1] * (rank(x) - 2)])))
