"""Lists of tensors of one shape, which loops write."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import BY_NAME, Array


@dataclass(frozen=True, eq=False)
class TensorList:
    """empty: what an element is before it is written; None if its shape depends on the input."""

    items: tuple[Array | None, ...]
    empty: Array | None
    grows: bool

    def written(self, places: Array, values: Array) -> TensorList:
        """With values at places, as long as they need. Raises IndexError if it does not grow."""
        items = list(self.items)
        for place, value in zip(places, values, strict=True):
            missing = int(place) + 1 - len(items)
            if missing > 0 and not self.grows:
                raise IndexError(f"place {place} of a list of {len(items)}")
            items += [self.empty] * missing
            items[int(place)] = value
        return replace(self, items=tuple(items))

    def read(self, place: int) -> Array:
        """An element. Raises ValueError for one that was never written and has no shape."""
        value = self.items[place]
        if value is None:
            raise ValueError(f"element {place} was not written")
        return value


@operator("make_list", moves=True)
def make_list(
    init_length: int = 1,
    dynamic_length: bool = True,
    elem_shape: list[Array | str] | None = None,
    dtype: str = "fp32",
) -> TensorList:
    """A list of zeros. Sizes that are words depend on the input."""
    sizes = [] if elem_shape is None else list(elem_shape)
    is_known = elem_shape is not None and not any(isinstance(size, str) for size in sizes)
    storage = np.float32 if BY_NAME[dtype].is_float else BY_NAME[dtype].storage
    empty = np.zeros([int(size) for size in sizes], storage) if is_known else None
    return TensorList((empty,) * int(init_length), empty, bool(dynamic_length))


@operator("list_length")
def list_length(ls: TensorList) -> Array:
    """The number of elements."""
    return np.array(len(ls.items), np.int32)


@operator("list_write", moves=True)
def list_write(ls: TensorList, index: Array, value: Array) -> TensorList:
    """With another element; a list that grows does so for it."""
    return ls.written(np.array([index]), value[None])


@operator("list_read", moves=True)
def list_read(ls: TensorList, index: Array) -> Array:
    """One element."""
    return ls.read(int(index))


@operator("list_gather", moves=True)
def list_gather(ls: TensorList, indices: Array) -> Array:
    """Elements, along a new first axis."""
    return np.stack([ls.read(int(index)) for index in indices])


@operator("list_scatter", moves=True)
def list_scatter(ls: TensorList, indices: Array, value: Array) -> TensorList:
    """With other elements, given along a first axis."""
    return ls.written(indices, value)
