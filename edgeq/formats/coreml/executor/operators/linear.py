"""Products of matrices."""

from __future__ import annotations

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array


@operator("linear")
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """`x · weightᵀ + bias`: x (…, inputs), weight (outputs, inputs), bias (outputs,)."""
    result: Array = np.matmul(x.reshape(-1, x.shape[-1]), weight.T)
    if bias is not None:
        result += bias
    return result.reshape(*x.shape[:-1], len(weight))


@operator("matmul")
def matmul(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    """The product over the last two axes, the others broadcast."""
    left = np.swapaxes(x, -1, -2) if transpose_x and x.ndim > 1 else x
    right = np.swapaxes(y, -1, -2) if transpose_y and y.ndim > 1 else y
    return np.asarray(np.matmul(left, right))


@operator("einsum")
def einsum(values: list[Array], equation: str) -> Array:
    """Einstein's sum, in numpy's notation."""
    return np.asarray(np.einsum(equation, *values, optimize=True))
