"""The one input of the latency and memory passes of a model of texts or arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import ValueInfo

SEQUENCE_LENGTH = 128

Feed = dict[str, npt.NDArray[Any]]


def sequence(tokens: Mapping[str, npt.NDArray[Any]], max_tokens: int) -> Feed:
    """`tokens` of one text, repeated to fill the timed sequence."""
    length = min(SEQUENCE_LENGTH, max_tokens)
    return {name: np.resize(array, (1, length)) for name, array in tokens.items()}


def sequence_words(feed: Feed) -> str:
    """The description of a sequence in the conditions of a measurement."""
    return f"sequence length {next(iter(feed.values())).shape[1]}, batch 1"


def made_up(inputs: Sequence[ValueInfo]) -> Feed:
    """Ones, or zeros for possible indices, in the declared shapes with free dimensions 1."""
    return {value.name: _ones(value) for value in inputs}


def made_up_words(feed: Feed) -> str:
    """The description of `made_up`."""
    return f"no evaluation data, so ones (floats) and zeros: {_shapes(feed)}"


def sample_words(feed: Feed) -> str:
    """The description of a sample of the recipe's data."""
    return f"first sample of the data: {_shapes(feed)}"


def _ones(value: ValueInfo) -> npt.NDArray[Any]:
    shape = tuple(size if isinstance(size, int) else 1 for size in value.shape)
    dtype = np.dtype(value.dtype)
    return np.full(shape, 1 if np.issubdtype(dtype, np.floating) else 0, dtype)


def _shapes(feed: Feed) -> str:
    return ", ".join(
        f"{name} {'×'.join(map(str, a.shape)) or 'scalar'}" for name, a in feed.items()
    )
