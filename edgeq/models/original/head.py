"""The sentence head of an encoder in numpy, to verify the graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeq.models.sentence_head import SentenceHead
from edgeq.models.weights import Weights

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def apply_head(tokens: np.ndarray, mask: np.ndarray, head: SentenceHead) -> np.ndarray:
    """The sentence head implemented a second time, to verify the graph."""
    seen = mask[..., None].astype(np.float32)
    places = np.arange(1, mask.shape[1] + 1, dtype=np.float32)[None, :, None] * seen
    if head.pooling == "cls":
        pooled = tokens[:, 0]
    elif head.pooling == "lasttoken":
        pooled = tokens[np.arange(len(tokens)), places[..., 0].argmax(1)]
    elif head.pooling == "max":
        pooled = np.where(seen > 0, tokens, np.finfo(np.float32).min).max(1)
    else:
        weights = places if head.pooling == "weightedmean" else seen
        power = 0.5 if head.pooling == "mean_sqrt_len_tokens" else 1.0
        pooled = (tokens * weights).sum(1) / np.maximum(weights.sum(1), 1) ** power
    for dense in head.dense:
        layer = Weights([dense.file])
        pooled = pooled @ layer.read("linear.weight").T
        pooled = pooled + (layer.read("linear.bias") if dense.bias else 0)
        pooled = _ACTIVATIONS[dense.activation](pooled)
    lengths = np.linalg.norm(pooled, axis=-1, keepdims=True) if head.normalize else 1.0
    return np.asarray(pooled / lengths)[:, : head.truncate]
