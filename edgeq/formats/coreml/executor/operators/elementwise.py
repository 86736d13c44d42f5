"""Arithmetic, comparison, logic: one element of each input makes one of the output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array

_UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "logical_not": np.logical_not,
    "round": np.round,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "equal": np.equal,
    "floor_div": np.floor_divide,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "not_equal": np.not_equal,
    "pow": np.power,
    "real_div": np.true_divide,
    "sub": np.subtract,
}


def _unary(function: Callable[[Any], Any]) -> Callable[..., Array]:
    return lambda x: np.asarray(function(x))


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Array]:
    return lambda x, y: np.asarray(function(x, y))


for _name, _function in _UNARY.items():
    operator(_name)(_unary(_function))
for _name, _two in _BINARY.items():
    operator(_name)(_binary(_two))


@operator("cast")
def cast(x: Array, dtype: str) -> Array:
    """`x` itself: the output's declared type does the conversion, as it does for every operator.

    A float becomes an integer by dropping its fraction.
    """
    return x


@operator("clip")
def clip(x: Array, alpha: Array, beta: Array) -> Array:
    """`x` clipped to `alpha` to `beta`."""
    return np.asarray(np.minimum(np.maximum(x, alpha), beta))


@operator("threshold")
def threshold(x: Array, alpha: Array) -> Array:
    """The larger of `x` and `alpha`."""
    return np.asarray(np.maximum(x, alpha))


@operator("inverse")
def inverse(x: Array, epsilon: float = 1e-4) -> Array:
    """`1 / (x + epsilon)`."""
    return np.asarray(1 / (x + np.float32(epsilon)))


@operator("log")
def log(x: Array, epsilon: float = 1e-45) -> Array:
    """`log(x + epsilon)`."""
    return np.asarray(np.log(x + np.float32(epsilon)))


@operator("rsqrt")
def rsqrt(x: Array, epsilon: float = 1e-12) -> Array:
    """`1 / sqrt(x + epsilon)`."""
    return np.asarray(1 / np.sqrt(x + np.float32(epsilon)))


@operator("select")
def select(cond: Array, a: Array, b: Array) -> Array:
    """`a` where `cond`, `b` elsewhere. What is not selected has no effect, not even a NaN."""
    return np.where(cond, a, b)
