"""The sentence head of an encoder in numpy, to verify the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgeq.models.sentence_head import Activation, Dense, Layer, LayerNorm, Pooling, SentenceHead
from edgeq.models.weights import Weights

_SELU = (1.0507009873554805, 1.6732632423543772)
_erf = np.vectorize(math.erf, otypes=[np.float64])
_ACTIVATIONS: Mapping[Activation, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "GELU": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "SiLU": lambda x: x / (1 + np.exp(-x)),
    "LeakyReLU": lambda x: np.where(x > 0, x, 0.01 * x),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(x)),
    "SELU": lambda x: _SELU[0] * np.where(x > 0, x, _SELU[1] * np.expm1(x)),
    "Softplus": lambda x: np.logaddexp(x, 0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
}


def apply_head(tokens: np.ndarray, mask: np.ndarray, head: SentenceHead) -> np.ndarray:
    """The sentence head implemented a second time, to verify the graph."""
    parts = [_pooled(tokens, mask, each, head.skipped) for each in head.poolings]
    pooled = np.concatenate(parts, axis=-1)
    for layer in head.layers:
        pooled = _applied(layer, pooled)
    return np.asarray(pooled[:, : head.truncate])


def _pooled(tokens: np.ndarray, mask: np.ndarray, pooling: Pooling, skipped: int) -> np.ndarray:
    """skipped: tokens at the beginning that do not count."""
    seen = mask[..., None].astype(np.float32)
    places = np.arange(1, mask.shape[1] + 1, dtype=np.float32)[None, :, None] * seen
    tokens, seen, places = (each[:, skipped:] for each in (tokens, seen, places))
    found: np.ndarray
    if pooling == "cls":
        found = tokens[:, 0]
    elif pooling == "lasttoken":
        found = tokens[np.arange(len(tokens)), places[..., 0].argmax(1)]
    elif pooling == "max":
        found = np.where(seen > 0, tokens, np.finfo(np.float32).min).max(1)
    else:
        weights = places if pooling == "weightedmean" else seen
        power = 0.5 if pooling == "mean_sqrt_len_tokens" else 1.0
        found = (tokens * weights).sum(1) / np.maximum(weights.sum(1), 1) ** power
    return found


def _applied(layer: Layer, pooled: np.ndarray) -> np.ndarray:
    if isinstance(layer, Dense):
        weights = Weights([layer.file])
        pooled = pooled @ weights.read("linear.weight").T
        pooled = pooled + (weights.read("linear.bias") if layer.bias else 0)
        return np.asarray(_ACTIVATIONS[layer.activation](pooled))
    if isinstance(layer, LayerNorm):
        weights = Weights([layer.file])
        centred = pooled - pooled.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-5)
        return np.asarray(scaled * weights.read("norm.weight") + weights.read("norm.bias"))
    return np.asarray(pooled / np.linalg.norm(pooled, axis=-1, keepdims=True))
