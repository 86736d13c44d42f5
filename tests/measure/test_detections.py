"""Precision of boxes, compared with pycocotools on the same boxes and with cases worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.formats.detections import Found
from edgeq.measure import detections
from edgeq.measure.detections import Detections, Precision, Truth


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 80, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], 1)


def found(sides: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> Found:
    order = np.argsort(-scores, kind="stable")
    return Found(sides[order], labels[order].astype(np.int64), scores[order])


def noisy(
    images: int, labels: int, seed: int = 0, digits: int = 2
) -> tuple[list[Found], list[Truth]]:
    """Boxes near the right ones, others beside them, and crowds."""
    rng = np.random.default_rng(seed)
    answers, truth = [], []
    for _ in range(images):
        count, more = int(rng.integers(0, 6)), int(rng.integers(0, 4))
        right, known = boxes(rng, count), rng.integers(0, labels, count)
        near = right + rng.normal(0, 2, right.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        sides = np.concatenate([near, boxes(rng, more)])
        given = np.concatenate([known, rng.integers(0, labels, more)])
        answers.append(found(sides, given, rng.random(len(sides)).round(digits)))
        truth.append(Truth(right, known.astype(np.int64), rng.random(count) < 0.15))
    return answers, truth


def by_pycocotools(answers: list[Found], truth: list[Truth], labels: int) -> float:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    evaluation = pytest.importorskip("pycocotools.cocoeval")

    def as_size(box: np.ndarray) -> list[float]:
        return [*map(float, box[:2]), *map(float, box[2:] - box[:2])]

    right: list[dict[str, Any]] = [
        {"image_id": i, "category_id": int(label), "bbox": as_size(box), "iscrowd": int(crowd)}
        for i, each in enumerate(truth, 1)
        for box, label, crowd in zip(each.boxes, each.labels, each.is_crowd, strict=True)
    ]
    given = [
        {"image_id": i, "category_id": int(label), "bbox": as_size(box), "score": float(score)}
        for i, each in enumerate(answers, 1)
        for box, label, score in zip(each.boxes, each.labels, each.scores, strict=True)
    ]
    known = coco.COCO()
    known.dataset = {
        "images": [{"id": i} for i in range(1, len(truth) + 1)],
        "categories": [{"id": label, "name": str(label)} for label in range(labels)],
        "annotations": [
            {**each, "id": i, "area": each["bbox"][2] * each["bbox"][3]}
            for i, each in enumerate(right, 1)
        ],
    }
    known.createIndex()
    run = evaluation.COCOeval(known, known.loadRes(given), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return float(run.stats[0])


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_average_precision_is_that_of_pycocotools(seed: int) -> None:
    answers, truth = noisy(40, 3, seed)
    wanted = by_pycocotools(answers, truth, 3)
    assert 0.05 < wanted < 0.95
    assert Precision.of(answers, truth, 3).mean() == pytest.approx(wanted, abs=1e-9)
    # An image that is drawn twice counts as two images.
    answers, truth = noisy(40, 3, seed, digits=15)  # no two scores alike
    drawn = np.random.default_rng(seed).integers(0, 40, 40)
    wanted = by_pycocotools([answers[i] for i in drawn], [truth[i] for i in drawn], 3)
    weights = np.bincount(drawn, minlength=40)[None].astype(np.float64)
    assert Precision.of(answers, truth, 3).means(weights)[0] == pytest.approx(wanted, abs=1e-9)


def square(left: float, score: float) -> tuple[list[float], float]:
    return [left, 0, left + 10, 10], score


def one(*squares: tuple[list[float], float]) -> Found:
    sides = np.array([box for box, _ in squares], np.float64).reshape(-1, 4)
    scores = np.array([score for _, score in squares], np.float64)
    return found(sides, np.zeros(len(scores)), scores)


def test_a_precision_worked_by_hand() -> None:
    truth = [Truth.of(one(square(0, 1), square(50, 1)))]
    # Shifted by 2 of 10: 8 / 12 shared, so a hit at 0.50, 0.55, 0.60 and 0.65.
    near = Precision.of([one(square(2, 0.9), square(50, 0.8))], truth, 1).mean()
    # At four overlaps both are hits. At six, the first is wrong: precision 1/2 up to recall 1/2.
    assert near == pytest.approx((4 * 1 + 6 * 51 / 101 / 2) / 10)
    # One of two found: precision 1 up to recall 1/2, at every overlap.
    assert Precision.of([one(square(0, 0.9))], truth, 1).mean() == pytest.approx(51 / 101)
    assert Precision.of([one()], truth, 1).mean() == 0
    assert Precision.of([one(square(0, 1))], [Truth.of(one())], 1).mean() is None


def judged(own: list[Found], original: list[Found], truth: list[Truth] | None) -> Detections:
    names = tuple(f"{i}.png" for i in range(len(own)))
    sizes = ((10, 100),) * len(own)
    right = None if truth is None else tuple(truth)
    return Detections(names, sizes, ("thing",), tuple(own), tuple(original), right, 0.25)


def test_a_drop_is_a_paired_difference() -> None:
    answers, truth = noisy(60, 1)
    fewer = [each.above(0.4) for each in answers]
    drop = detections.map_drop(judged(fewer, answers, truth))
    score = detections.map_score(judged(fewer, answers, truth))
    assert drop is not None
    assert score is not None
    assert score.original is not None
    assert drop.value == pytest.approx(score.original - score.value)
    assert drop.bounds is not None
    assert score.bounds is not None
    assert drop.bounds.low < drop.value < drop.bounds.high
    assert drop.bounds.high - drop.bounds.low < score.bounds.high - score.bounds.low


def test_what_no_image_shows_is_not_ruled_out() -> None:
    answers, truth = noisy(60, 1)
    same = judged(answers, answers, truth)
    drop, agreement = detections.map_drop(same), same.agreement()
    assert drop is not None
    assert drop.value == 0
    assert drop.bounds is not None
    assert drop.bounds.high > 0.01
    assert agreement is not None
    assert agreement.value == 1
    assert agreement.bounds is not None
    assert agreement.bounds.low < 0.99
    assert same.changed() == ()
    assert detections.map_drop(judged(answers, answers, None)) is None
    assert judged([one()] * 30, [one()] * 30, None).agreement() is None


def test_boxes_below_the_threshold_do_not_reach_an_app() -> None:
    own, original = one(square(0, 0.9), square(50, 0.2)), one(square(0, 0.9), square(50, 0.3))
    answers = judged([original, own], [original, original], None)
    (change,) = answers.changed()
    assert (change.image, len(change.was), len(change.now)) == ("1.png", 2, 1)
    agreement = answers.agreement()
    assert agreement is not None
    assert agreement.value == pytest.approx(76 / 101)  # three of four found
    assert agreement.bounds is None  # of two images


def test_another_label_is_a_change() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    own, original = (Found(box, np.array([label]), np.array([0.9])) for label in (0, 1))
    answers = Detections(("a",), ((10, 10),), ("x", "y"), (own,), (original,), None, 0.25)
    (change,) = answers.changed()
    assert (change.was[0].label, change.now[0].label) == ("y", "x")
