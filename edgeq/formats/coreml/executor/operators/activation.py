"""Activation functions, and the error function that the exact GELU needs."""

from __future__ import annotations

import math

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array

_STEP = 1 / 64
_LAST = 4.0
"""erf(4) is 1 − 1.5e-8, which is 1 in float32."""

_NODES = np.arange(0, _LAST + _STEP, _STEP)
_ERF = np.array([math.erf(x) for x in _NODES], np.float32)
_SLOPE = (2 / math.sqrt(math.pi) * np.exp(-(_NODES**2))).astype(np.float32)


@operator("erf")
def erf(x: Array) -> Array:
    """The error function within 1.2e-7, the width of two float32 values near 1.

    A Taylor polynomial around the nearest of 257 known points a: with d = |x| − a, erf' = s and
    erf'' = −2as, erf''' = (4a² − 2)s. The first term left out is below 1e-9.
    """
    size = np.minimum(np.abs(x), np.float32(_LAST))
    # A NaN has no nearest point; it is carried through `size` instead.
    nearest = np.nan_to_num(size * np.float32(1 / _STEP) + np.float32(0.5)).astype(np.int32)
    a = nearest * np.float32(_STEP)
    d = size - a
    curve = 1 - d * (a - d * (a * a * np.float32(2 / 3) - np.float32(1 / 3)))
    return np.asarray(np.copysign(_ERF[nearest] + _SLOPE[nearest] * d * curve, x))


@operator("sigmoid")
def sigmoid(x: Array) -> Array:
    """`1 / (1 + exp(−x))`."""
    return np.asarray(1 / (1 + np.exp(-x)))


@operator("silu")
def silu(x: Array) -> Array:
    """`x · sigmoid(x)`."""
    return np.asarray(x * sigmoid(x))


@operator("gelu")
def gelu(x: Array, mode: str = "EXACT") -> Array:
    """`x` times the share of a normal distribution below `x`, exact or by one of two formulas."""
    if mode == "EXACT":
        return np.asarray(np.float32(0.5) * x * (1 + erf(x * np.float32(math.sqrt(0.5)))))
    if mode == "TANH_APPROXIMATION":
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
        return np.asarray(np.float32(0.5) * x * (1 + np.tanh(inner)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * sigmoid(np.float32(1.702) * x)
    raise ValueError(f"gelu has no mode {mode!r}")


@operator("relu")
def relu(x: Array) -> Array:
    """The larger of `x` and 0."""
    return np.asarray(np.maximum(x, 0))


@operator("relu6")
def relu6(x: Array) -> Array:
    """`x` clipped to 0 to 6."""
    return np.asarray(np.minimum(np.maximum(x, 0), 6))


@operator("clamped_relu")
def clamped_relu(x: Array, alpha: Array, beta: Array) -> Array:
    """Leaky ReLU of slope `alpha`, at most `beta`."""
    return np.asarray(np.minimum(np.where(x >= 0, x, alpha * x), beta))


@operator("leaky_relu")
def leaky_relu(x: Array, alpha: Array) -> Array:
    """`x`, or `alpha · x` below zero."""
    return np.where(x >= 0, x, alpha * x)


@operator("prelu")
def prelu(x: Array, alpha: Array) -> Array:
    """Leaky ReLU with a slope for each channel (axis 1)."""
    return np.where(x >= 0, x, alpha.reshape(-1, *[1] * (x.ndim - 2)) * x)


@operator("elu")
def elu(x: Array, alpha: Array) -> Array:
    """`x`, or `alpha · (exp(x) − 1)` below zero."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@operator("thresholded_relu")
def thresholded_relu(x: Array, alpha: Array) -> Array:
    """`x` where it reaches `alpha`, else 0."""
    return np.where(x >= alpha, x, 0)


@operator("sigmoid_hard")
def sigmoid_hard(x: Array, alpha: Array, beta: Array) -> Array:
    """`alpha · x + beta`, clipped to 0 to 1."""
    return np.asarray(np.minimum(np.maximum(alpha * x + beta, 0), 1))


@operator("linear_activation")
def linear_activation(x: Array, alpha: Array, beta: Array) -> Array:
    """`alpha · x + beta`."""
    return np.asarray(alpha * x + beta)


@operator("scaled_tanh")
def scaled_tanh(x: Array, alpha: Array, beta: Array) -> Array:
    """`alpha · tanh(beta · x)`."""
    return np.asarray(alpha * np.tanh(beta * x))


@operator("softplus")
def softplus(x: Array) -> Array:
    """`log(1 + exp(x))`."""
    return np.asarray(np.logaddexp(x, np.float32(0)))


@operator("softplus_parametric")
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    """`alpha · log(1 + exp(beta · x))`, with numbers for each channel (axis 1)."""
    alpha, beta = (each.reshape(-1, *[1] * (x.ndim - 2)) for each in (alpha, beta))
    return np.asarray(alpha * softplus(beta * x))


@operator("softsign")
def softsign(x: Array) -> Array:
    """`x / (1 + |x|)`."""
    return np.asarray(x / (1 + np.abs(x)))
