"""Reading and writing at places that are themselves data."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array


@operator("gather", moves=True)
def gather(
    x: Array, indices: Array, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Array:
    """`x` at `indices` along `axis`; the first `batch_dims` axes of both run together."""
    axis, batch = int(axis) % x.ndim, int(batch_dims)
    if not batch:
        return np.take(x, indices, axis=axis)
    lead = x.shape[:batch]
    pairs = zip(
        x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:]), strict=True
    )
    items = np.stack([np.take(part, index, axis=axis - batch) for part, index in pairs])
    return items.reshape(*lead, *items.shape[1:])


@operator("gather_along_axis", moves=True)
def gather_along_axis(
    x: Array, indices: Array, axis: int = 0, validate_indices: bool = False
) -> Array:
    """Along `axis` the element that `indices`, of the result's shape, names."""
    return np.take_along_axis(x, indices.astype(np.int64), axis=int(axis))


@operator("gather_nd", moves=True)
def gather_nd(
    x: Array, indices: Array, batch_dims: int = 0, validate_indices: bool = False
) -> Array:
    """`x` at places whose leading coordinates are the last axis of `indices`."""
    batch = int(batch_dims)
    if not batch:
        return np.asarray(x[_places(indices)])
    lead = x.shape[:batch]
    pairs = zip(
        x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:]), strict=True
    )
    items = np.stack([part[_places(index)] for part, index in pairs])
    return items.reshape(*lead, *items.shape[1:])


@operator("scatter")
def scatter(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Array:
    """`data` with `updates` worked in at `indices` along `axis`."""
    place = (slice(None),) * (int(axis) % data.ndim) + (indices,)
    return _worked_in(data, place, updates, mode)


@operator("scatter_along_axis")
def scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Array:
    """`data` with each of `updates` worked in where `indices`, of its shape, says along `axis`."""
    place: list[Any] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    place[int(axis) % data.ndim] = indices
    return _worked_in(data, tuple(place), updates, mode)


@operator("scatter_nd")
def scatter_nd(
    data: Array, indices: Array, updates: Array, mode: str = "add", validate_indices: bool = False
) -> Array:
    """`data` with `updates` worked in at places named by the last axis of `indices`."""
    return _worked_in(data, _places(indices), updates, mode)


@operator("one_hot")
def one_hot(
    indices: Array,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Array | float = 1,
    off_value: Array | float = 0,
) -> Array:
    """A new axis with `on_value` at the index and `off_value` elsewhere."""
    hot = np.arange(int(one_hot_vector_size)) == indices[..., None]
    return np.moveaxis(np.where(hot, on_value, off_value), -1, int(axis))


@operator("non_zero")
def non_zero(x: Array) -> Array:
    """The coordinates of the values that are not zero, a row for each."""
    return np.argwhere(x)


def _places(indices: Array) -> tuple[Array, ...]:
    return tuple(np.moveaxis(indices, -1, 0))


_WAYS: dict[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


def _worked_in(data: Array, place: tuple[Any, ...], updates: Array, mode: str) -> Array:
    result = np.array(data)
    if mode == "update":
        result[place] = updates
    elif mode in _WAYS:
        _WAYS[mode].at(result, place, updates)
    else:
        raise ValueError(f"scatter has no mode {mode!r}")
    return result
