"""Metrics of transcripts, word by word: agreement with the original, and the word error rate.

Words are compared as they are spoken, without case and punctuation, as is usual for word error
rates: a comma that comes or goes is not a misheard word.
"""

from __future__ import annotations

import unicodedata
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
        """One minus the word error rate with the original's texts as the right ones, from 0 to 1.

        A recording in which the original hears nothing counts as one word.
        """
        words = np.array([max(1, len(spoken(text))) for text in self.original], np.float64)
        other = np.minimum(_errors(self.own, self.original), words)
        share = float(1 - other.sum() / words.sum())
        if other.any():
            bounds = ratio_bounds(words - other, words)
        else:  # what no recording shows, another may
            bounds = share_bounds(share, len(words))
        return Score(value=share, bounds=bounds, samples=len(words))

    def changed(self) -> tuple[Changed, ...]:
        """The first recordings with other words."""
        rows = zip(self.names, self.original, self.own, strict=True)
        return tuple(
            Changed(text=name, was=(was,), now=(now,))
            for name, was, now in rows
            if spoken(was) != spoken(now)
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


def spoken(text: str) -> list[str]:
    """The words of a text, without case and punctuation; apostrophes within words stay.

    >>> spoken("Well, I don't — ask!")
    ['well', 'i', "don't", 'ask']
    """
    folded = (
        unicodedata.normalize("NFKC", text)
        .casefold()
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    kept = (" " if unicodedata.category(c)[0] in "PS" and c != "'" else c for c in folded)
    return [word for word in (part.strip("'") for part in "".join(kept).split()) if word]


def errors(found: str, right: str) -> int:
    """The fewest words to replace, leave out or add.

    >>> errors("The cat sat.", "a cat sat down")
    2
    """
    given, wanted = spoken(found), spoken(right)
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
    words = np.array([len(spoken(text)) for text in truth], np.float64)
    if not words.any():
        return None
    own, original = (_errors(texts, truth) for texts in (found.own, found.original))
    return own, original, words


def _errors(texts: Sequence[str], truth: Sequence[str]) -> Doubles:
    return np.array([errors(a, b) for a, b in zip(texts, truth, strict=True)], np.float64)
