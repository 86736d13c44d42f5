"""Where two language models disagree: a histogram, and the worst tokens in their context.

For pages that show a divergence; `edgeq.measure.divergence` has the figures themselves.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.formats.language import LanguageModel

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

_LOWEST, _DECADES, _PER_DECADE = -9, 11, 8
_KEPT = 8
_CANDIDATES = 3  # most probable tokens of each model
_CONTEXT_TOKENS = 40


class Histogram(Frozen):
    """Counts of scored tokens by their KL divergence, on a logarithmic scale."""

    lowest: float = Field(description="Lower edge of the first bin, in nats.")
    per_decade: int = Field(description="Number of bins per power of ten.")
    below: int = Field(description="Tokens below the first bin; rounding leaves a few below zero.")
    counts: tuple[int, ...] = Field(
        description="Counts by bin; the last also counts everything beyond it."
    )


class Candidate(Frozen):
    """One possible next token, and its probability under each model."""

    text: str
    reference: float
    candidate: float


class Disagreement(Frozen):
    """One place of the text where the candidate's prediction is far from the reference's."""

    window: int = Field(description="Index of the window among those that were run.")
    position: int = Field(description="Number of tokens in the window before the predicted one.")
    before: str = Field(description="The end of the text before it.")
    follows: str = Field(description="The next token in the text.")
    kl: float = Field(description="KL divergence of this prediction, in nats.")
    candidates: tuple[Candidate, ...] = Field(
        description="The most likely tokens of both models and the next one in the text, sorted "
        "by the reference."
    )


def histogram(kl: Doubles) -> Histogram:
    """`kl`, in nats, counted in bins of an eighth of a power of ten from 1e-9."""
    edges = 10.0 ** (_LOWEST + np.arange(_DECADES * _PER_DECADE) / _PER_DECADE)
    bins = np.searchsorted(edges, kl, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return Histogram(
        lowest=float(edges[0]),
        per_decade=_PER_DECADE,
        below=int(counts[0]),
        counts=tuple(map(int, counts[1:])),
    )


class Worst:
    """Keeps the scored tokens with the largest divergence over all windows."""

    def __init__(self, model: LanguageModel) -> None:
        """model: either of the two, for the text of tokens."""
        self._model = model
        self._heap: list[tuple[float, int, int, Disagreement]] = []

    def add(self, index: int, window: Sequence[int], logits: Sequence[Floats], kl: Doubles) -> None:
        """Add the scored rows of one window: logits of reference and candidate, (rows, vocabulary).

        kl: in nats, one per row. The last row predicts the last token of `window`.
        """
        for row in np.argsort(-kl)[:_KEPT].tolist():
            value = float(kl[row])
            if len(self._heap) == _KEPT and value <= self._heap[0][0]:
                return
            position = len(window) - len(kl) + row
            found = self._describe(index, position, window, [part[row] for part in logits], value)
            # Index and position break ties, so that records are never compared.
            heapq.heappush(self._heap, (value, -index, -position, found))
            if len(self._heap) > _KEPT:
                heapq.heappop(self._heap)

    def found(self) -> tuple[Disagreement, ...]:
        """The kept places, largest divergence first."""
        return tuple(entry[3] for entry in sorted(self._heap, key=lambda entry: entry[:3])[::-1])

    def _describe(
        self, index: int, position: int, window: Sequence[int], rows: list[Floats], kl: float
    ) -> Disagreement:
        p, q = (_softmax(row) for row in rows)
        likeliest = [np.argsort(-part)[:_CANDIDATES].tolist() for part in (p, q)]
        following = window[position]
        ids = {*likeliest[0], *likeliest[1], following}
        return Disagreement(
            window=index,
            position=position,
            before=self._model.text(window[max(0, position - _CONTEXT_TOKENS) : position]),
            follows=self._model.text([following]),
            kl=kl,
            candidates=tuple(
                Candidate(
                    text=self._model.text([token]),
                    reference=float(p[token]),
                    candidate=float(q[token]),
                )
                for token in sorted(ids, key=lambda token: (-p[token], token))
            ),
        )


def _softmax(logits: Floats) -> Doubles:
    values = np.exp(logits.astype(np.float64) - logits.max())
    result: Doubles = values / values.sum()
    return result
