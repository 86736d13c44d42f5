"""Metrics of taggers: labels of tokens and parts of texts, compared with the original's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import Classes
from edgeq.formats.entities import entities, own_tokens
from edgeq.formats.text import TextEncoder
from edgeq.measure.intervals import Bounds, clustered_share, ratio_bounds
from edgeq.measure.paired import paired_bounds
from edgeq.measure.records import Changed, Score
from edgeq.recipe.tagged_sets import Span

Doubles = npt.NDArray[np.float64]
Answers = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True)
class Tagged:
    """A text, with the parts that the artifact, the original and the evaluation data label.

    truth: None if the data label none. tokens: of the text; same: those with the original's label.
    """

    text: str
    own: frozenset[Span]
    original: frozenset[Span]
    truth: frozenset[Span] | None
    tokens: int
    same: int


@dataclass(frozen=True)
class Tagging:
    """Different texts with their parts. Parts are equal if places and labels are.

    shown: the most texts that `changed` gives.
    """

    texts: tuple[Tagged, ...]
    shown: int = 8

    def agreement(self) -> Score:
        """The share of tokens that keep the label which the original gives them."""
        counts = np.array([(each.same, each.tokens) for each in self.texts], np.float64)
        share, bounds = clustered_share(counts[:, 0], counts[:, 1])
        return Score(value=share, bounds=bounds, samples=int(counts[:, 1].sum()), noun="tokens")

    def f1(self) -> Score | None:
        """F1 over all parts: 2 × hits / (given + right)."""
        own, original = self._counts("own"), self._counts("original")
        if own is None or original is None:
            return None
        value, other = (float(each[:, 0].sum() / each[:, 1].sum()) for each in (own, original))
        bounds = ratio_bounds(own[:, 0], own[:, 1])
        return Score(value=value, bounds=bounds, original=other, samples=len(own))

    def f1_drop(self) -> Score | None:
        """The original's F1 minus the artifact's, on the same texts.

        Its interval is that of a mean: of each text's influence on the difference (the delta
        method), with a studentized bootstrap.
        """
        own, original = self._counts("own"), self._counts("original")
        if own is None or original is None:
            return None
        drop = _influence(original) - _influence(own)
        bounds: Bounds | None = ratio_bounds(drop, np.ones(len(drop)))
        if bounds is not None and (own == original).all():  # what no text shows, another may
            bounds = paired_bounds(0, 0, len(own))
        return Score(value=float(drop.mean()), bounds=bounds, samples=len(own))

    def changed(self) -> tuple[Changed, ...]:
        """The first texts with other parts than the original's."""
        differ = [each for each in self.texts if each.own != each.original][: self.shown]
        return tuple(
            Changed(
                text=each.text,
                was=tuple(_words(each.text, each.original - each.own)),
                now=tuple(_words(each.text, each.own - each.original)),
            )
            for each in differ
        )

    def _counts(self, whose: str) -> Doubles | None:
        """Twice the hits, and the parts given and right, of each text; None without any."""
        counts = np.array(
            [
                (2 * len(given & each.truth), len(given) + len(each.truth))
                for each in self.texts
                if each.truth is not None
                for given in (getattr(each, whose),)
            ],
            np.float64,
        ).reshape(-1, 2)
        return counts if counts[:, 1].any() else None


def tagged(
    texts: Sequence[str],
    answers: tuple[Answers, Answers],
    encoder: TextEncoder,
    classes: Classes,
    spans: Sequence[Sequence[Span]] | None,
) -> Tagging:
    """Answers (1, tokens, labels) of the artifact and the original to texts as labelled parts.

    The artifact may cut texts shorter: what it does not read is unlabelled. A repeated text counts
    once.
    """
    first = {text: index for index, text in reversed([*enumerate(texts)])}
    found = []
    for text, index in sorted(first.items(), key=lambda item: item[1]):
        labels, parts = [], []
        for rows in answers:
            scores = rows[index][0]
            encoder.limit(len(scores))
            encoded = encoder.encoded(text)
            labels.append(scores[own_tokens(encoded)].argmax(-1))
            given = entities(text, encoder, encoded, scores, classes)
            parts.append(frozenset((part.start, part.end, part.label) for part in given))
        shared = min(map(len, labels))
        same = int((labels[0][:shared] == labels[1][:shared]).sum())
        truth = None if spans is None else frozenset(spans[index])
        found.append(Tagged(text, parts[0], parts[1], truth, len(labels[1]), same))
    return Tagging(tuple(each for each in found if each.tokens))


def shared_tokens(own: Answers, original: Answers) -> Iterator[tuple[Any, Any]]:
    """Both answers to each text, as far as both models read it."""
    for a, b in zip(own, original, strict=True):
        count = min(a.shape[1], b.shape[1])
        yield a[:, :count], b[:, :count]


def _influence(counts: Doubles) -> Doubles:
    """Values with the mean Σ hits / Σ parts, and its spread over texts."""
    ratio = counts[:, 0].sum() / counts[:, 1].sum()
    residuals = counts[:, 0] - ratio * counts[:, 1]
    return np.asarray(ratio + residuals * len(counts) / counts[:, 1].sum())


def _words(text: str, spans: frozenset[Span]) -> Iterator[str]:
    return (f"{label}: {text[start:end]}" for start, end, label in sorted(spans))
