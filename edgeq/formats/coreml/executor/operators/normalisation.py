"""Normalisations over an axis, a channel or a vector, and softmax."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array


@operator("layer_norm")
def layer_norm(
    x: Array,
    axes: Array | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Array:
    """`(x − mean) / sqrt(variance + epsilon) · gamma + beta` over `axes` (all by default).

    gamma and beta have the shape of x along those axes, which need not be the last ones.
    """
    over = tuple(range(x.ndim)) if axes is None else tuple(int(a) % x.ndim for a in axes)
    shape = [n if a in over else 1 for a, n in enumerate(x.shape)]
    return _affine(_standardised(x, over, epsilon), gamma, beta, shape)


@operator("instance_norm")
def instance_norm(
    x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: float = 1e-5
) -> Array:
    """Each channel of each item (axes 0 and 1) normalised over its places."""
    normal = _standardised(x, tuple(range(2, x.ndim)), epsilon)
    return _affine(normal, gamma, beta, _channels(x))


@operator("batch_norm")
def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Array:
    """Each channel (axis 1) normalised by the mean and variance that training left."""
    shape = _channels(x)
    scale = 1 / np.sqrt(variance.reshape(shape) + np.float32(epsilon))
    return _affine((x - mean.reshape(shape)) * scale, gamma, beta, shape)


@operator("l2_norm")
def l2_norm(x: Array, epsilon: float = 1e-6) -> Array:
    """`x / sqrt(sum of squares + epsilon)`, the sum over the last three axes."""
    over = tuple(range(max(x.ndim - 3, 0), x.ndim))
    total = np.sum(np.square(x), axis=over, keepdims=True)
    return np.asarray(x / np.sqrt(total + np.float32(epsilon)))


@operator("local_response_norm")
def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """`x / (k + alpha · mean of squares of `size` near channels)^beta`."""
    width = int(size)
    before, after = width // 2, (width - 1) // 2
    squares = np.pad(x * x, [(0, 0), (before, after), *[(0, 0)] * (x.ndim - 2)])
    total = sliding_window_view(squares, width, axis=1).sum(-1)
    return np.asarray(x / (k + alpha / width * total) ** beta)


@operator("softmax")
def softmax(x: Array, axis: int = -1) -> Array:
    """Exponentials, divided by their sum along `axis`."""
    exponentials = np.exp(x - np.max(x, axis=int(axis), keepdims=True))
    return np.asarray(exponentials / np.sum(exponentials, axis=int(axis), keepdims=True))


def _standardised(x: Array, over: tuple[int, ...], epsilon: float) -> Array:
    centred = x - np.mean(x, axis=over, keepdims=True)
    variance = np.mean(np.square(centred), axis=over, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + np.float32(epsilon)))


def _channels(x: Array) -> list[int]:
    return [1, -1] + [1] * (x.ndim - 2)


def _affine(x: Array, gamma: Array | None, beta: Array | None, shape: list[int]) -> Array:
    if gamma is not None:
        x = x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)
