"""Metrics of rankings: nDCG is scikit-learn's, and intervals do not promise too much."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeq.measure.metrics import METRICS
from edgeq.measure.rankings import Query, ndcg_of, order, ranked, reciprocal_rank_of


def test_ndcg_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = np.random.default_rng(0)
    for count in (2, 5, 10, 30):
        scores = generator.integers(0, 8, count).astype(np.float64)  # with equal ones
        relevance = generator.integers(0, 4, count).astype(np.float64)
        relevance[0] = 1
        wanted = metrics.ndcg_score([2**relevance - 1], [scores], k=10)
        assert ndcg_of(scores, relevance) == pytest.approx(wanted)


def test_ndcg_by_hand() -> None:
    relevance = np.array([0.0, 1.0, 3.0])
    assert ndcg_of(np.array([1.0, 2.0, 3.0]), relevance) == 1
    best = 7 + 1 / np.log2(3)
    worst = 1 / np.log2(3) + 7 / np.log2(4)
    assert ndcg_of(np.array([3.0, 2.0, 1.0]), relevance) == pytest.approx(worst / best)


def test_the_reciprocal_rank_is_the_mean_over_orders_of_equal_scores() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        count = int(generator.integers(1, 6))
        scores = generator.integers(0, 3, count).astype(np.float64)
        relevance = generator.integers(0, 2, count).astype(np.float64)
        relevance[generator.integers(count)] = 1
        found = []
        for order_of in itertools.permutations(range(count)):
            if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order_of)):
                found.append(1 / (1 + next(i for i, at in enumerate(order_of) if relevance[at])))
        assert reciprocal_rank_of(scores, relevance) == pytest.approx(np.mean(found))


def test_a_drop_is_the_original_s_mean_minus_the_artifact_s() -> None:
    relevance = np.array([0.0, 1.0, 0.0])
    good, bad = np.array([0.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0])
    queries = [Query(bad, good, relevance)] * 30 + [Query(good, good, relevance)] * 30
    mean, drop = (METRICS.named(name).score(queries) for name in ("mrr", "mrr_drop"))
    assert mean is not None and mean.original == 1
    assert mean.value == pytest.approx((1 + 1 / 3) / 2)
    assert drop is not None and drop.value == pytest.approx(1 - mean.value)


def test_pairs_in_another_order_count_once() -> None:
    pairs = [("a", "1"), ("a", "2"), ("b", "1"), ("a", "3"), ("b", "2"), ("a", "1")]
    original = [np.array([[score]]) for score in (3.0, 2.0, 5.0, 1.0, 5.0, 3.0)]
    own = [np.array([[score]]) for score in (2.0, 3.0, 1.0, 1.0, 2.0, 9.0)]
    found = order(ranked(pairs, own, original, None))
    assert found is not None
    # Of a: 1-2 changes, 1-3 and 2-3 stay. The original orders none of b.
    assert found.value == pytest.approx(2 / 3)
    assert found.samples == 1


def test_nothing_seen_to_change_may_still_change() -> None:
    scores = np.array([0.0, 1.0, 2.0])
    same = [Query(scores, scores, np.array([0.0, 0.0, 1.0]))] * 100
    kept, lost = order(same), METRICS.named("ndcg_drop").score(same)
    assert kept is not None and kept.bounds is not None
    assert lost is not None and lost.bounds is not None
    assert (kept.value, lost.value) == (1, 0)
    assert 0.95 < kept.bounds.low < 0.97
    assert 0.03 < lost.bounds.high < 0.05
    assert METRICS.named("ndcg_drop").score([Query(scores, scores, None)]) is None
