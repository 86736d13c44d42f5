"""Operators that work element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats.coreai.operators.registry import Value, like, lowers, named, narrowed

_BINARY = {
    "add": "broadcasting_add",
    "mul": "broadcasting_mul",
    "real_div": "broadcasting_divide",
    "floor_div": "broadcasting_floor_divide",
    "mod": "broadcasting_modulo",
    "pow": "broadcasting_pow",
    "maximum": "broadcasting_maximum",
    "minimum": "broadcasting_minimum",
    "equal": "broadcasting_equal",
    "not_equal": "broadcasting_not_equal",
    "greater": "broadcasting_greater",
    "logical_and": "broadcasting_and",
    "logical_or": "broadcasting_or",
    "logical_xor": "broadcasting_xor",
}
_UNARY = {
    "relu": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "erf": "erf",
    "exp": "exp",
    "sqrt": "sqrt",
    "abs": "abs_",
    "round": "round_",
    "sin": "sin",
    "cos": "cos",
    "silu": "silu",
    "logical_not": "not_",
    "tan": "tan",
    "asin": "asin",
    "acos": "acos",
    "atan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "atanh": "atanh",
}

named(_BINARY, lambda name: lambda a, x, y: getattr(a, name)(x, y))
named(_UNARY, lambda name: lambda a, x: getattr(a, name)(x))


@lowers("sub")
def subtracted(a: Any, x: Value, y: Value) -> Value:
    """A constant is added with its sign changed.

    Apple's runtime makes a convolution, a subtraction and a product one convolution, even where
    something else reads the first one's result.
    """
    if isinstance(y, np.ndarray) and y.dtype.kind == "f":
        return a.broadcasting_add(x, -y)
    return a.broadcasting_sub(x, y)


@lowers("less")
def _less(a: Any, x: Value, y: Value) -> Value:
    return a.broadcasting_greater(y, x)


@lowers("greater_equal")
def _greater_equal(a: Any, x: Value, y: Value) -> Value:
    return a.broadcasting_or(a.broadcasting_greater(x, y), a.broadcasting_equal(x, y))


@lowers("less_equal")
def _less_equal(a: Any, x: Value, y: Value) -> Value:
    return _greater_equal(a, y, x)


@lowers("select")
def _select(authoring: Any, cond: Value, a: Value, b: Value) -> Value:
    return authoring.broadcasting_where(cond, a, b)


@lowers("identity")
def _identity(a: Any, x: Value) -> Value:
    return x


@lowers("floor")
def floor(a: Any, x: Value) -> Value:
    return a.broadcasting_floor_divide(x, like(x, 1))


@lowers("ceil")
def _ceil(a: Any, x: Value) -> Value:
    minus = like(x, -1)
    return a.broadcasting_mul(floor(a, a.broadcasting_mul(x, minus)), minus)


def truncated(a: Any, x: Value) -> Value:
    """Without its fraction: Apple's compiler drops casts to integers between two others."""
    is_above = a.broadcasting_greater(x, like(x, 0))
    return a.broadcasting_where(is_above, floor(a, x), _ceil(a, x))


@lowers("sign")
def _sign(a: Any, x: Value) -> Value:
    zero = like(x, 0)
    above, below = a.broadcasting_greater(x, zero), a.broadcasting_greater(zero, x)
    return a.broadcasting_sub(narrowed(a, above, x), narrowed(a, below, x))


@lowers("log")
def _log(a: Any, x: Value, epsilon: Value = 0.0) -> Value:
    return a.log(a.broadcasting_add(x, epsilon) if np.any(epsilon) else x)


@lowers("rsqrt")
def _rsqrt(a: Any, x: Value, epsilon: Value = 0.0) -> Value:
    return a.rsqrt(a.broadcasting_add(x, epsilon) if np.any(epsilon) else x)


@lowers("gelu")
def _gelu(a: Any, x: Value, mode: str) -> Value:
    return a.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@lowers("sigmoid_hard")
def _sigmoid_hard(a: Any, x: Value, alpha: Value, beta: Value) -> Value:
    line = a.broadcasting_add(a.broadcasting_mul(x, alpha), beta)
    return a.broadcasting_minimum(a.relu(line), like(x, 1))


@lowers("leaky_relu")
def _leaky_relu(a: Any, x: Value, alpha: Value) -> Value:
    below = a.broadcasting_mul(x, alpha)
    return a.broadcasting_where(a.broadcasting_greater(x, like(x, 0)), x, below)


@lowers("elu")
def _elu(a: Any, x: Value, alpha: Value) -> Value:
    # Of the smaller one, so that no power is infinite.
    power = a.exp(a.broadcasting_minimum(x, like(x, 0)))
    below = a.broadcasting_mul(a.broadcasting_sub(power, like(x, 1)), alpha)
    return a.broadcasting_where(a.broadcasting_greater(x, like(x, 0)), x, below)


@lowers("softsign")
def _softsign(a: Any, x: Value) -> Value:
    return a.broadcasting_divide(x, a.broadcasting_add(a.abs_(x), like(x, 1)))
