"""Scored predictions: from an open model, or from recorded answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeq.formats.language import LanguageModel
from edgeq.measure.scoring import score

Floats = npt.NDArray[np.float32]


class Predictions(ABC):
    """A model's predictions for the tokens of windows. vocabulary: number of tokens."""

    vocabulary: int

    @abstractmethod
    def scored(self, window: Sequence[int]) -> Floats:
        """Logits of the scored positions, float32 (rows, vocabulary)."""

    @abstractmethod
    def noise(self, index: int, window: Sequence[int], whole: Floats) -> float:
        """Mean KL from itself on window `index`, whose scored logits are `whole`.

        The effect of rounding alone: the text is run token by token through the KV cache, or
        `noise_piece` tokens at a time. Longer pieces show nothing on llama.cpp: products of two
        rows or more all take one path there.
        """


class LivePredictions(Predictions):
    """Predictions of an open model."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.vocabulary = model.vocabulary

    def scored(self, window: Sequence[int]) -> Floats:
        """See `Predictions.scored`."""
        return self._last(window)

    def noise(self, index: int, window: Sequence[int], whole: Floats) -> float:
        """See `Predictions.noise`."""
        pieces = self._last(window, piece=self.model.noise_piece)
        return float(score(whole, pieces, following(window)).kl.mean())

    def _last(self, window: Sequence[int], **pieces: int) -> Floats:
        """The scored rows: the last one predicts a token that the window does not have."""
        return self._logits(window, len(window) - len(window) // 2, **pieces)[:-1]

    def _logits(self, ids: Sequence[int], last: int, **pieces: int) -> Floats:
        return self.model.last_logits(ids, last, **pieces)


def following(window: Sequence[int]) -> list[int]:
    """The tokens that the scored rows of a window predict."""
    return list(window[len(window) // 2 + 1 :])
