"""Lists of as many rows as a run finds, maybe none.

On arrays without values, Apple's runtime for Linux ends its process in most operators, and sums are
whatever lies in memory. So an empty list has one row inside a program, which nobody counts and the
outputs lack. Operators that would mix it with others, or count it, are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgeq.formats.coreai.free import Free
from edgeq.formats.coreai.operators import LOWERED, elementwise

_ALONG = frozenset(
    {
        *(kind for kind in LOWERED if kind.startswith("reduce_")),
        *("concat", "cumsum", "layer_norm", "softmax", "split", "topk", "gather_along_axis"),
    }
)
"""Operators that mix values along the axes that they name."""
_ROWS = frozenset({"expand_dims", "squeeze", "tile", "transpose"})
"""Operators that keep rows whole."""


class Counted(Free):
    """A size that a run finds. is_any: int32 (1,), 0 if it is none."""

    def __init__(self, is_any: Any) -> None:
        self.is_any = is_any


def places_of(a: Any, x: Any) -> tuple[Any, Any]:
    """The places of what is not 0 in `x`, int32 (rows, 1), at least one row; and int32 (1,), 0 if
    that row is not one of them.
    """
    (length,) = x.type.shape
    if length < 0:
        raise ValueError("it looks through a list of any length: build for one shape")
    chosen = a.cast(a.broadcasting_not_equal(x, np.zeros(1, np.int32)), np.int32)
    is_any = a.reduce_max(chosen, np.zeros(1, np.int32))
    filled = a.concat(
        np.array(0, np.int32), [chosen, a.broadcasting_sub(np.ones(1, np.int32), is_any)]
    )
    found = a.cast(a.non_zero(filled), np.int32)
    return a.broadcasting_minimum(found, np.array([[length - 1]], np.int32)), is_any


def without_filler(a: Any, x: Any, shape: tuple[Any, ...]) -> Any:
    """An output `x` without the row that an empty list has. shape: its sizes."""
    sizes = [size for size in shape if isinstance(size, Counted)]
    if not sizes:
        return x
    is_list = np.array([isinstance(size, Counted) for size in shape])
    ones = np.ones(len(shape), np.int32)
    factors = a.broadcasting_where(is_list, sizes[0].is_any, ones)
    ends = a.broadcasting_mul(a.cast(a.get_shape(x), np.int32), factors)
    return a.slice_(x, 0 * ones, ends, ones)


def counted(values: Mapping[str, Any]) -> Counted | None:
    """The size of the list that an operator reads, if it reads any. Raises ValueError for two."""
    found = {
        id(size.is_any): size
        for value in values.values()
        for each in (value if isinstance(value, list | tuple) else [value])
        for size in _own(each)
    }
    if len(found) > 1:
        raise ValueError("it joins lists that may be empty one by one")
    return next(iter(found.values()), None)


def require_rows_apart(kind: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError for an operator that mixes or counts the rows of a list."""
    is_apart = kind in _ROWS or LOWERED[kind].__module__ == elementwise.__name__
    check = _CHECKS.get(kind, _axes if kind in _ALONG else None)
    if not is_apart and (check is None or not check(values)):
        raise ValueError("it mixes or counts rows of a list that may be empty")


def _own(value: Any) -> list[Counted]:
    return [size for size in getattr(value, "shape", ()) if isinstance(size, Counted)]


def _is_counted(value: Any, *axes: int) -> bool:
    shape = getattr(value, "shape", ())
    return any(-len(shape) <= n < len(shape) and isinstance(shape[n], Counted) for n in axes)


def _axes(values: Mapping[str, Any]) -> bool:
    given = values.get("axis", values.get("axes"))
    axes = [int(axis) for axis in np.asarray(given).reshape(-1)]
    whole = values["values"] if "values" in values else [values.get("x", values.get("data"))]
    return not any(_is_counted(each, *axes) for each in whole)


def _gather(values: Mapping[str, Any]) -> bool:
    return not _is_counted(values["x"], int(values["axis"]))


def _slice(values: Mapping[str, Any]) -> bool:
    """From the first row on."""
    shape = values["x"].shape
    begins, ends = (_numbers(values[key], len(shape)) for key in ("begin", "end"))
    masks = (values.get(key) or [False] * len(shape) for key in ("begin_mask", "end_mask"))
    return all(
        (from_first or begin == 0) and (to_last or end > 0)
        for size, begin, end, from_first, to_last in zip(shape, begins, ends, *masks, strict=True)
        if isinstance(size, Counted)
    )


def _numbers(places: Any, count: int) -> list[int]:
    """-1 for those that a run decides."""
    return [-1] * count if hasattr(places, "value") else np.asarray(places).tolist()


def _reshape(values: Mapping[str, Any]) -> bool:
    return -1 in np.asarray(values["shape"]).reshape(-1).tolist()


_CHECKS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "gather": _gather,
    "gather_nd": lambda values: not _own(values["x"]),
    "matmul": lambda values: not (_is_counted(values["x"], -1) or _is_counted(values["y"], -2)),
    "reshape": _reshape,
    "slice_by_index": _slice,
}
