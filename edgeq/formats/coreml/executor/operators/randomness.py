"""Random values: of the distributions that a program names, though not Core ML's own draws.

How Core ML turns a seed into values is not documented. Here equal seeds give equal values, too; a
negative seed gives others in every run.
"""

from __future__ import annotations

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array


@operator("random_uniform")
def random_uniform(shape: Array, low: float = 0.0, high: float = 1.0, seed: int = -1) -> Array:
    """From `low` to below `high`."""
    return _generator(seed).uniform(low, high, shape).astype(np.float32)


@operator("random_normal")
def random_normal(shape: Array, mean: float = 0.0, stddev: float = 1.0, seed: int = -1) -> Array:
    """Normally distributed."""
    return _generator(seed).normal(mean, stddev, shape).astype(np.float32)


@operator("random_bernoulli")
def random_bernoulli(shape: Array, prob: float = 0.5, seed: int = -1) -> Array:
    """1 with the probability `prob`, else 0."""
    return (_generator(seed).random(shape) < prob).astype(np.float32)


@operator("random_categorical")
def random_categorical(x: Array, mode: str = "logits", size: int = 1, seed: int = -1) -> Array:
    """`size` classes for every row of `x`, with replacement."""
    scores = np.log(x) if mode == "probs" else x
    noise = _generator(seed).gumbel(size=(*x.shape[:-1], int(size), x.shape[-1]))
    return np.asarray((scores[..., None, :] + noise).argmax(-1), np.float32)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(int(seed) if int(seed) >= 0 else None)
