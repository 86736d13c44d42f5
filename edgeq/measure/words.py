"""Metrics of transcripts: the word error rate, and recordings that keep their text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.measure.intervals import Doubles, ratio_bounds, share_bounds
from edgeq.measure.paired import paired_bounds
from edgeq.measure.records import Changed, Score

_SHOWN = 8


@dataclass(frozen=True)
class Transcripts:
    """Texts of different recordings: the artifact's, the original's, and the right ones if known.

    names: of the recordings.
    """

    names: tuple[str, ...]
    own: tuple[str, ...]
    original: tuple[str, ...]
    truth: tuple[str, ...] | None

    def agreement(self) -> Score:
        """The share of recordings with the original's text, word for word."""
        same = [a == b for a, b in zip(self.own, self.original, strict=True)]
        share = sum(same) / len(same)
        return Score(value=share, bounds=share_bounds(share, len(same)), samples=len(same))

    def changed(self) -> tuple[Changed, ...]:
        """The first recordings with another text."""
        rows = zip(self.names, self.original, self.own, strict=True)
        return tuple(
            Changed(text=name, was=(was,), now=(now,)) for name, was, now in rows if was != now
        )[:_SHOWN]


def wer(found: Transcripts) -> Score | None:
    """The word error rate: words replaced, left out or added, by right words."""
    counts = _counts(found)
    if counts is None:
        return None
    own, original, words = counts
    return Score(
        value=float(own.sum() / words.sum()),
        bounds=ratio_bounds(own, words),
        original=float(original.sum() / words.sum()),
        samples=len(words),
    )


def wer_rise(found: Transcripts) -> Score | None:
    """The artifact's word error rate minus the original's, on the same recordings."""
    counts = _counts(found)
    if counts is None:
        return None
    own, original, words = counts
    more = own - original
    bounds = ratio_bounds(more, words)
    if bounds is not None and not more.any():  # what no recording shows, another may
        bounds = paired_bounds(0, 0, len(words))
    return Score(value=float(more.sum() / words.sum()), bounds=bounds, samples=len(words))


def errors(found: str, right: str) -> int:
    """The fewest words to replace, leave out or add.

    >>> errors("the cat sat", "a cat sat down")
    2
    """
    given, wanted = found.split(), right.split()
    row: list[int] = [*range(len(wanted) + 1)]
    for count, word in enumerate(given, 1):
        before, row[0] = row[0], count
        for at, other in enumerate(wanted, 1):
            replaced = before + int(word != other)
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, replaced)
    return row[-1]


def _counts(found: Transcripts) -> tuple[Doubles, Doubles, Doubles] | None:
    """Errors of the artifact and the original, and right words, by recording."""
    if found.truth is None:
        return None
    truth = found.truth
    words = np.array([len(text.split()) for text in truth], np.float64)
    if not words.any():
        return None
    own, original = (_errors(texts, truth) for texts in (found.own, found.original))
    return own, original, words


def _errors(texts: Sequence[str], truth: Sequence[str]) -> Doubles:
    return np.array([errors(a, b) for a, b in zip(texts, truth, strict=True)], np.float64)
