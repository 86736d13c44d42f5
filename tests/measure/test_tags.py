"""Metrics of taggers: F1 by parts as its definition says, and intervals that hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.core.tasks import TOKEN_CLASSIFICATION
from edgeq.measure.metrics import scores_of
from edgeq.measure.tags import Tagged, Tagging
from edgeq.recipe.tagged_sets import Span


def drawn(count: int, seed: int, kept: tuple[float, float]) -> Tagging:
    """Texts with up to four parts each, of which original and artifact find some."""
    rng = np.random.default_rng(seed)
    texts = []
    for index in range(count):
        truth: list[Span] = [(5 * i, 5 * i + 3, "AB"[i % 2]) for i in range(rng.integers(0, 5))]
        original = frozenset(part for part in truth if rng.random() < kept[0])
        own = frozenset(part for part in original if rng.random() < kept[1])
        same = 12 - len(original - own)
        texts.append(Tagged(f"text {index}", own, original, frozenset(truth), 12, same))
    return Tagging(tuple(texts))


def f1(found: Tagging, whose: str) -> float:
    hits = sum(len(getattr(each, whose) & (each.truth or set())) for each in found.texts)
    given = sum(len(getattr(each, whose)) for each in found.texts)
    return 2 * hits / (given + sum(len(each.truth or ()) for each in found.texts))


def test_f1_counts_parts_and_agreement_tokens() -> None:
    found = drawn(60, 1, (0.9, 0.9))
    scores = scores_of(TOKEN_CLASSIFICATION, found)
    assert scores["f1"].value == pytest.approx(f1(found, "own"))
    assert scores["f1"].original == pytest.approx(f1(found, "original"))
    drop = f1(found, "original") - f1(found, "own")
    assert scores["f1_drop"].value == pytest.approx(drop)
    same = sum(each.same for each in found.texts)
    assert scores["agreement"].value == pytest.approx(same / (60 * 12))
    assert (scores["agreement"].noun, scores["agreement"].samples) == ("tokens", 720)
    assert (scores["f1_drop"].noun, scores["f1_drop"].samples) == ("texts", 60)


def test_parts_that_only_one_finds_are_shown() -> None:
    own, original = (frozenset({(0, 3, "PER"), (7, 13, label)}) for label in ("LOC", "ORG"))
    (change,) = Tagging((Tagged("Ada in London", own, original, None, 3, 2),)).changed()
    assert (change.was, change.now) == (("ORG: London",), ("LOC: London",))


def test_without_labels_only_agreement_is_scored() -> None:
    found = Tagging((Tagged("a b", frozenset(), frozenset(), None, 2, 2),))
    assert set(scores_of(TOKEN_CLASSIFICATION, found)) == {"agreement"}


def test_the_interval_of_a_drop_holds_it_in_19_of_20_draws() -> None:
    # All that is found is right: F1 is 2 × recall ÷ (1 + recall).
    original, own = (2 * recall / (1 + recall) for recall in (0.9, 0.9 * 0.95))
    true = original - own
    scores = [drawn(60, seed, (0.9, 0.95)).f1_drop() for seed in range(1, 101)]
    bounds = [score.bounds for score in scores if score is not None and score.bounds is not None]
    assert len(bounds) == 100
    assert np.mean([each.low <= true <= each.high for each in bounds]) >= 0.9
    assert np.mean([each.high < true for each in bounds]) <= 0.05  # what would pass wrongly


def test_equal_answers_are_no_proof_of_equality() -> None:
    score = drawn(30, 3, (0.9, 1.0)).f1_drop()
    assert score is not None
    assert score.value == 0
    assert score.bounds is not None
    assert score.bounds.high > 0.05
