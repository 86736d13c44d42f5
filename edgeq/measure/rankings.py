"""Metrics of rankings: the order of texts under each query, compared with the original's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.measure.intervals import clustered_share, ratio_bounds
from edgeq.measure.paired import paired_bounds
from edgeq.measure.records import Score

Floats = npt.NDArray[np.float64]
Measure = Callable[[Floats, Floats], float]
"""From the scores of a query's texts and their relevance."""
_DEPTH = 10  # of nDCG


@dataclass(frozen=True)
class Query:
    """Scores of the texts under one query, the artifact's and the original's.

    relevance: of each, None if the evaluation data have none.
    """

    own: Floats
    original: Floats
    relevance: Floats | None


def ranked(
    pairs: Sequence[tuple[str, str]],
    answers: Sequence[npt.NDArray[np.floating]],
    references: Sequence[npt.NDArray[np.floating]],
    relevance: Sequence[float] | None,
) -> tuple[Query, ...]:
    """Answers to pairs of a query and a text, by query; a repeated pair counts once."""
    groups: dict[str, dict[str, int]] = {}
    for index, (query, text) in enumerate(pairs):
        groups.setdefault(query, {}).setdefault(text, index)
    own, original = (
        np.array([float(each.ravel()[0]) for each in x]) for x in (answers, references)
    )
    known = None if relevance is None else np.array(relevance, np.float64)
    rows = [[*group.values()] for group in groups.values()]
    return tuple(
        Query(own[row], original[row], None if known is None else known[row]) for row in rows
    )


def order(queries: Sequence[Query]) -> Score | None:
    """The share of pairs of texts under one query that keep the original's order.

    Pairs of one query depend on each other: see `clustered_share`.
    """
    counts = np.array([_kept(query) for query in queries], np.float64).reshape(-1, 2)
    counts = counts[counts[:, 1] > 0]
    if not len(counts):
        return None
    share, bounds = clustered_share(counts[:, 0], counts[:, 1])
    return Score(value=share, bounds=bounds, samples=len(counts))


def mean_of(measure: Measure) -> Callable[[Sequence[Query]], Score | None]:
    """The metric that is the mean over queries of `measure`."""

    def score(queries: Sequence[Query]) -> Score | None:
        found = _both(queries, measure)
        if found is None:
            return None
        own, original = found
        bounds = ratio_bounds(own, np.ones(len(own)))
        value, other = float(own.mean()), float(original.mean())
        return Score(value=value, bounds=bounds, original=other, samples=len(own))

    return score


def drop_of(measure: Measure) -> Callable[[Sequence[Query]], Score | None]:
    """The metric that is the mean loss of `measure`, query by query."""

    def score(queries: Sequence[Query]) -> Score | None:
        found = _both(queries, measure)
        if found is None:
            return None
        lost = found[1] - found[0]
        bounds = ratio_bounds(lost, np.ones(len(lost)))
        if bounds is not None and not lost.any():  # what no query shows, another may
            bounds = paired_bounds(0, 0, len(lost))
        return Score(value=float(lost.mean()), bounds=bounds, samples=len(lost))

    return score


def ndcg_of(scores: Floats, relevance: Floats) -> float:
    """nDCG of the first ten: gains 2^relevance − 1, discounted by the logarithm of the rank; equal
    scores share theirs.

    >>> ndcg_of(np.array([2.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0])).__round__(4)
    0.6309
    """
    gains, best = 2.0**relevance - 1, -np.sort(-(2.0**relevance - 1))
    discounts = np.zeros(len(scores))
    discounts[:_DEPTH] = 1 / np.log2(np.arange(2, len(scores) + 2)[:_DEPTH])
    at = np.argsort(-scores, kind="stable")
    _, groups = np.unique(-scores[at], return_inverse=True)
    shared = np.bincount(groups, discounts) / np.bincount(groups)
    return float((gains[at] * shared[groups]).sum() / (best * discounts).sum())


def reciprocal_rank_of(scores: Floats, relevance: Floats) -> float:
    """One divided by the rank of the first relevant text; the mean over orders of equal scores.

    >>> reciprocal_rank_of(np.array([2.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0]))
    0.5
    """
    best = scores[relevance > 0].max()
    above, equal = int((scores > best).sum()), scores == best
    count, relevant = int(equal.sum()), int((equal & (relevance > 0)).sum())
    orders = math.comb(count, relevant)
    return sum(
        math.comb(count - place, relevant - 1) / orders / (above + place)
        for place in range(1, count - relevant + 2)
    )


def _kept(query: Query) -> tuple[int, int]:
    """Pairs of texts in the original's order, and pairs that it orders."""
    kept = total = 0
    for a, b in itertools.combinations(range(len(query.own)), 2):
        wanted = np.sign(query.original[a] - query.original[b])
        kept += int(wanted != 0 and wanted == np.sign(query.own[a] - query.own[b]))
        total += int(wanted != 0)
    return kept, total


def _both(queries: Sequence[Query], measure: Measure) -> tuple[Floats, Floats] | None:
    """The artifact's and the original's value of each query with a relevant text."""
    known = [(q, q.relevance) for q in queries if q.relevance is not None and q.relevance.any()]
    if not known:
        return None
    own, original = (
        np.array([measure(getattr(query, name), relevance) for query, relevance in known])
        for name in ("own", "original")
    )
    return own, original
