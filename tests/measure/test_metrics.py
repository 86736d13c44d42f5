"""Metrics of labels, their intervals, and the scores of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.core.artifact import Classes
from edgeq.core.tasks import TEXT_CLASSIFICATION
from edgeq.measure.metrics import judged, macro_f1, scores_of
from edgeq.measure.paired import paired_bounds

THREE = Classes(labels=("a", "b", "c"), function="softmax")
SEVERAL = Classes(labels=("a", "b", "c"), function="sigmoid")


def rows(labels: str) -> list[np.ndarray]:
    """One row of scores a letter, its own the highest."""
    return [np.eye(3)[["abc".index(letter)]] for letter in labels]


def test_labels_are_compared_with_the_original_and_the_truth() -> None:
    texts = [f"text {index}" for index in range(10)]
    found = judged(texts, rows("aabbccabca"), rows("aabbccabcc"), THREE, list("aabbccabbb"))
    scores = scores_of(TEXT_CLASSIFICATION, found)
    assert scores["agreement"].value == 0.9
    assert (scores["accuracy"].value, scores["accuracy"].original) == (0.8, 0.8)
    assert scores["accuracy_drop"].value == 0
    (change,) = found.changed()
    assert (change.text, change.was, change.now) == ("text 9", ("c",), ("a",))


def test_what_is_confused_is_the_matrix_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = np.random.default_rng(0)
    truth, own, original = ("".join(generator.choice([*"abc"], 60)) for _ in range(3))
    found = judged([*map(str, range(60))], rows(own), rows(original), THREE, [*truth])
    wanted = (metrics.confusion_matrix([*truth], [*given]) for given in (own, original))
    (matrix, other), pairs = wanted, found.confused()
    assert len(pairs) == 6
    assert [each.count for each in pairs] == sorted((each.count for each in pairs), reverse=True)
    for each in pairs:
        at = "abc".index(each.right), "abc".index(each.given)
        assert (each.count, each.original_count) == (matrix[at], other[at])


def test_several_labels_at_a_time_are_not_confused() -> None:
    own = [np.array([[0.0, -1.0, 2.0]]), np.array([[-1.0, -1.0, -1.0]])]
    assert judged(["x", "y"], own, own, SEVERAL, ["a", "b"]).confused() == ()


def test_a_repeated_text_tells_nothing_new() -> None:
    texts = ["one", "two", "one", "one"]
    found = judged(texts, rows("abaa"), rows("bbbb"), THREE, None)
    scores = scores_of(TEXT_CLASSIFICATION, found)
    assert set(scores) == {"agreement"}
    assert (scores["agreement"].value, scores["agreement"].samples) == (0.5, 2)


def test_each_of_several_labels_has_its_own_threshold() -> None:
    own = [np.array([[0.0, -1.0, 2.0]]), np.array([[-1.0, -1.0, -1.0]])]
    found = judged(["x", "y"], own, own, SEVERAL, None)
    assert found.own.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert SEVERAL.probabilities(own[0])[0] == pytest.approx([0.5, 0.26894, 0.88080], abs=1e-5)


def test_macro_f1_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = np.random.default_rng(0)
    for classes in (2, 3, 7):
        own, truth = generator.integers(0, classes, (2, 50))
        wanted = metrics.f1_score(truth, own, average="macro")
        eye = np.eye(classes, dtype=np.int64)
        assert macro_f1(eye[own], eye[truth]) == pytest.approx(wanted)


def test_a_loss_of_macro_f1_is_a_difference_on_the_same_samples() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = np.random.default_rng(2)
    truth = generator.integers(0, 3, 60)
    original, own = (
        np.where(generator.random(60) < share, truth, (truth + 1) % 3) for share in (0.95, 0.8)
    )
    texts = [f"text {index}" for index in range(60)]
    answers, others = ([np.eye(3)[[each]] for each in labels] for labels in (own, original))
    right = ["abc"[each] for each in truth]
    score = scores_of(TEXT_CLASSIFICATION, judged(texts, answers, others, THREE, right))["f1_drop"]
    wanted, lost = (metrics.f1_score(truth, each, average="macro") for each in (original, own))
    assert score.value == pytest.approx(wanted - lost)
    assert score.bounds is not None
    assert score.bounds.low < score.value < score.bounds.high
    same = judged(texts, others, others, THREE, right).f1_drop()
    assert same is not None
    assert same.bounds is not None
    assert same.bounds.high > 0.05  # 60 equal samples are no proof of equality


@pytest.mark.parametrize("count", [50, 200])
@pytest.mark.parametrize(("lost", "won"), [(0.01, 0.01), (0.1, 0.0)])
def test_the_interval_of_a_drop_holds_it_in_19_of_20_draws(
    count: int, lost: float, won: float
) -> None:
    generator = np.random.default_rng(1)
    draws = generator.multinomial(count, [lost, won, 1 - lost - won], 1000)
    bounds = [paired_bounds(float(a), float(b), count) for a, b, _ in draws]
    assert np.mean([each.low <= lost - won <= each.high for each in bounds]) >= 0.945
    assert np.mean([each.high < lost - won for each in bounds]) <= 0.03  # what would pass wrongly
