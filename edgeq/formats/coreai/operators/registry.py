"""The MIL's operators in Core AI's: each function takes values, or arrays for what is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Value = Any
"""A value of Apple's package, or an array."""
Lower = Callable[..., Any]

LOWERED: dict[str, Lower] = {}
"""How to write each operator, by the MIL's name; the first argument is `coreai.authoring`."""

FAR = np.iinfo(np.int32).max
"""A place beyond any axis."""


def lowers(*kinds: str) -> Callable[[Lower], Lower]:
    """Register a function for the MIL's operators `kinds`."""

    def register(function: Lower) -> Lower:
        LOWERED.update(dict.fromkeys(kinds, function))
        return function

    return register


def named(table: dict[str, str], make: Callable[[str], Lower]) -> None:
    LOWERED.update({kind: make(name) for kind, name in table.items()})


def sizes(x: Value) -> tuple[int, ...]:
    """The shape; negative where a run decides."""
    return tuple(x.shape) if isinstance(x, np.ndarray) else tuple(x.type.shape)


def rank(x: Value) -> int:
    """The number of axes."""
    return len(sizes(x))


def signed(values: Any) -> Any:
    return np.asarray(values, np.int32) if not hasattr(values, "type") else values


def unsigned(values: Any) -> Any:
    return np.asarray(values, np.uint32)


def known(values: Any) -> list[int]:
    if hasattr(values, "type"):
        raise ValueError("a size or axis depends on the input")
    return [int(value) for value in np.asarray(values).reshape(-1)]


def without(a: Any, x: Value, axes: Value, keep_dims: bool) -> Value:
    chosen = known(axes)
    return x if keep_dims or not chosen else a.shrink_dims(x, signed(chosen))


def like(x: Value, number: float) -> Any:
    """A number in the type of a value."""
    return np.array(number, x.dtype if isinstance(x, np.ndarray) else numpy_type(x))


def numpy_type(x: Value) -> Any:
    return {"f16": np.float16, "f32": np.float32, "si32": np.int32}[str(x.type.dtype)]


def widened(a: Any, x: Value) -> Value:
    """In float32: sums of squares are beyond float16 at ordinary values."""
    return x if isinstance(x, np.ndarray) else a.cast(x, np.float32)


def narrowed(a: Any, x: Value, like: Value) -> Value:
    return a.cast(x, numpy_type(like))
