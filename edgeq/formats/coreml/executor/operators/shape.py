"""Operators that move, repeat, join or create values and compute none."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import Outputs, operator
from edgeq.formats.coreml.executor.types import Array


def _axes(axes: Array) -> tuple[int, ...]:
    return tuple(int(a) for a in np.atleast_1d(axes))


@operator("identity", moves=True)
def identity(x: Array) -> Array:
    """`x` itself."""
    return x


@operator("shape")
def shape_of(x: Array) -> Array:
    """The lengths of `x`."""
    return np.array(x.shape, np.int32)


@operator("reshape", moves=True)
def reshape(x: Array, shape: Array) -> Array:
    """`x` in another shape; −1 is the length that fits, 0 the length `x` has there."""
    lengths = [x.shape[i] if n == 0 and i < x.ndim else int(n) for i, n in enumerate(shape)]
    return x.reshape(lengths)


@operator("transpose", moves=True)
def transpose(x: Array, perm: Array) -> Array:
    """Axis `perm[i]` of `x` becomes axis i."""
    return np.transpose(x, _axes(perm))


@operator("expand_dims", moves=True)
def expand_dims(x: Array, axes: Array) -> Array:
    """New axes of length 1, at these places of the result."""
    return np.expand_dims(x, _axes(axes))


@operator("squeeze", moves=True)
def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Axes of length 1 taken away: these, or all."""
    return np.squeeze(x, None if axes is None else _axes(axes))


@operator("flatten2d", moves=True)
def flatten2d(x: Array, axis: int = 1) -> Array:
    """A matrix: the axes before `axis` joined, and the others."""
    return x.reshape(int(np.prod(x.shape[: int(axis)], dtype=np.int64)), -1)


@operator("concat", moves=True)
def concat(values: list[Array], axis: int, interleave: bool = False) -> Array:
    """Arrays one behind the other along `axis`, or their slices in turn. Scalars make a vector."""
    parts = [np.atleast_1d(value) for value in values]
    place = int(axis) % parts[0].ndim
    if not interleave:
        return np.concatenate(parts, axis=place)
    lengths = list(parts[0].shape)
    lengths[place] *= len(parts)
    return np.stack(parts, axis=place + 1).reshape(lengths)


@operator("stack", moves=True)
def stack(values: list[Array], axis: int) -> Array:
    """Arrays along a new axis."""
    return np.stack(values, axis=int(axis))


@operator("split", moves=True)
def split(
    x: Array, axis: int, num_splits: int | None = None, split_sizes: Array | None = None
) -> Outputs:
    """`x` cut along `axis` into equal parts, or parts of these sizes."""
    if split_sizes is not None:
        return tuple(np.split(x, np.cumsum(split_sizes)[:-1], axis=int(axis)))
    if num_splits is None:
        raise ValueError("split has neither num_splits nor split_sizes")
    return tuple(np.split(x, int(num_splits), axis=int(axis)))


@operator("tile", moves=True)
def tile(x: Array, reps: Array) -> Array:
    """`x` repeated along each axis."""
    return np.tile(x, _axes(reps))


@operator("reverse", moves=True)
def reverse(x: Array, axes: Array | None = None) -> Array:
    """`x` backwards along these axes, or all."""
    return np.flip(x, None if axes is None else _axes(axes))


@operator("pad", moves=True)
def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Any = 0) -> Array:
    """`x` with more at the two ends of its last axes: (before, after) for each of them."""
    sides = [(int(before), int(after)) for before, after in np.reshape(pad, (-1, 2))]
    widths = [(0, 0)] * (x.ndim - len(sides)) + sides
    if mode == "constant":
        return np.pad(x, widths, constant_values=np.asarray(constant_val).astype(x.dtype))
    return np.pad(x, widths, mode={"reflect": "reflect", "replicate": "edge"}[mode])  # type: ignore[call-overload,no-any-return]


@operator("pixel_shuffle", moves=True)
def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """(n, c·f², h, w) as (n, c, h·f, w·f): groups of channels become squares of pixels."""
    n, c, h, w = x.shape
    f = int(upscale_factor)
    parts = x.reshape(n, c // (f * f), f, f, h, w)
    return parts.transpose(0, 1, 4, 2, 5, 3).reshape(n, c // (f * f), h * f, w * f)


def slices(
    rank: int,
    begin: Array,
    end: Array,
    stride: Array | None,
    begin_mask: Array | None,
    end_mask: Array | None,
    squeeze_mask: Array | None,
) -> tuple[slice | int, ...]:
    """An index of numpy for MIL's description of a slice.

    A masked begin or end counts as not given; a squeezed axis is indexed at its begin and vanishes.
    """

    def flags(mask: Array | None) -> list[bool]:
        return [False] * rank if mask is None else [bool(m) for m in mask]

    steps = [1] * rank if stride is None else [int(s) for s in stride]
    index: list[slice | int] = []
    no_begin, no_end, squeezed = flags(begin_mask), flags(end_mask), flags(squeeze_mask)
    for axis in range(rank):
        first = None if no_begin[axis] else int(begin[axis])
        if squeezed[axis]:
            index.append(first or 0)
        else:
            last = None if no_end[axis] else int(end[axis])
            index.append(slice(first, last, steps[axis]))
    return tuple(index)


@operator("slice_by_index", moves=True)
def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """A slice of `x`."""
    index = slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    return np.asarray(x[index])


@operator("slice_update", moves=True)
def slice_update(
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """`x` with a slice replaced. ValueError if the update has another shape than the slice."""
    index = slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result = np.array(x)
    if result[index].shape != update.shape:
        raise ValueError(f"a slice of shape {result[index].shape} gets one of {update.shape}")
    result[index] = update
    return result


@operator("slice_by_size", moves=True)
def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    """`size` elements from `begin` along each axis; −1 is all that follow."""
    starts = [int(b) % n if n else 0 for b, n in zip(begin, x.shape, strict=True)]
    return x[
        tuple(
            slice(b, None if int(s) == -1 else b + int(s))
            for b, s in zip(starts, size, strict=True)
        )
    ]


@operator("range_1d")
def range_1d(end: Array, start: Array, step: Array) -> Array:
    """`start`, `start + step` … up to and without `end`."""
    return np.arange(start.item(), end.item(), step.item(), dtype=np.result_type(start, end, step))


@operator("fill")
def fill(shape: Array, value: Array | float = 0.0) -> Array:
    """One value everywhere."""
    return np.full(_axes(shape), value)


@operator("fill_like")
def fill_like(ref_tensor: Array, value: Array | float = 0.0) -> Array:
    """One value everywhere, in the shape of another tensor."""
    return np.full(ref_tensor.shape, value)


@operator("band_part", moves=True)
def band_part(x: Array, lower: int = -1, upper: int = -1) -> Array:
    """Matrices with zeros farther from the diagonal than `lower` below or `upper` above it.

    A negative bound keeps everything on its side.
    """
    rows, columns = x.shape[-2:]
    distance = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    keep = np.ones((rows, columns), np.bool_)
    if int(lower) >= 0:
        keep &= distance >= -int(lower)
    if int(upper) >= 0:
        keep &= distance <= int(upper)
    return np.where(keep, x, np.zeros((), x.dtype))
