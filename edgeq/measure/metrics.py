"""Metrics of the answers that users see, compared with the original's on the same data.

A task names its metrics; a quality budget with the name of a metric limits it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import Classes
from edgeq.core.registry import Registry
from edgeq.core.tasks import Task
from edgeq.measure import detections, rankings, tags, words
from edgeq.measure.intervals import Bounds, resampled_bounds, share_bounds
from edgeq.measure.paired import paired_bounds
from edgeq.measure.records import Changed, Confused, Score

Labels = npt.NDArray[np.int64]
"""(samples, classes), 1 for each label that a sample has."""
Scores = npt.NDArray[np.floating]
Hits = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
_FIVE = 5
SHOWN = 8
"""Samples whose labels changed."""


@dataclass(frozen=True)
class Judged:
    """Answers to different samples, as labels: the artifact's, the original's, and the correct
    ones.

    texts: the samples, or their names. labels: the names of the classes. truth: None if the
    evaluation data have no labels. scores: of each class, the artifact's and the original's.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    own: Labels
    original: Labels
    truth: Labels | None
    scores: tuple[Scores, Scores]

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(self.own)

    def agreement(self) -> Score:
        """The share of samples that keep the original's labels."""
        share = float(_same(self.own, self.original).mean())
        return Score(value=share, bounds=share_bounds(share, self.count), samples=self.count)

    def f1_drop(self) -> Score | None:
        """The original's macro F1 minus the artifact's."""
        truth, own, original = self.truth, self.own, self.original
        if truth is None:
            return None
        value = macro_f1(original, truth) - macro_f1(own, truth)
        bounds: Bounds | None = paired_bounds(0, 0, self.count)  # what no sample shows, another may
        if (own != original).any():
            bounds = resampled_bounds(
                self.count,
                lambda at: macro_f1(original[at], truth[at]) - macro_f1(own[at], truth[at]),
            )
        return Score(value=value, bounds=bounds, samples=self.count)

    def confused(self) -> tuple[Confused, ...]:
        """The pairs of a right and a wrong label that the artifact gives most often.

        None where samples have several labels, or the right ones are not known.
        """
        truth = self.truth
        if truth is None or not ((truth.sum(1) == 1) & (self.own.sum(1) == 1)).all():
            return ()
        right = truth.argmax(1)
        own, original = (
            Counter(zip(right.tolist(), given.argmax(1).tolist(), strict=True))
            for given in (self.own, self.original)
        )
        wrong = {pair: count for pair, count in (own | original).items() if pair[0] != pair[1]}
        most = sorted(wrong, key=lambda pair: (-own[pair], -original[pair], pair))[:SHOWN]
        return tuple(
            Confused(
                right=self.labels[pair[0]],
                given=self.labels[pair[1]],
                count=own[pair],
                original_count=original[pair],
            )
            for pair in most
        )

    def changed(self) -> tuple[Changed, ...]:
        """The first samples with other labels than the original's."""
        rows = np.flatnonzero((self.own != self.original).any(1))[:SHOWN]

        def names(row: npt.NDArray[np.int64]) -> tuple[str, ...]:
            return tuple(label for label, has in zip(self.labels, row, strict=True) if has)

        return tuple(
            Changed(text=self.texts[row], was=names(self.original[row]), now=names(self.own[row]))
            for row in rows
        )


Answers: TypeAlias = (
    Judged | tags.Tagging | Sequence[rankings.Query] | detections.Detections | words.Transcripts
)


@dataclass(frozen=True)
class Metric:
    """A quality metric; `score` is None if the data do not allow it.

    It takes what the task's answers become: `Judged` for labels, `tags.Tagging` for the parts of
    texts, `rankings.Query` of every query for rankings, `choices.Answered` for questions,
    `Detections` for boxes, `Transcripts` for texts.
    """

    name: str
    score: Callable[[Any], Score | None]


def judged(
    texts: Sequence[str],
    answers: Sequence[npt.NDArray[np.floating]],
    references: Sequence[npt.NDArray[np.floating]],
    classes: Classes,
    truth: Sequence[str] | None,
) -> Judged:
    """Answers (1, classes) to texts as labels; a repeated text counts once."""
    first = sorted({text: index for index, text in reversed([*enumerate(texts)])}.values())
    scores = [np.concatenate([rows[index] for index in first]) for rows in (answers, references)]
    own, original = map(classes.chosen, scores)
    right = None
    if truth is not None:
        right = np.zeros_like(own)
        for row, index in enumerate(first):
            right[row, classes.labels.index(truth[index])] = 1
    names = tuple(texts[index] for index in first)
    return Judged(names, classes.labels, own, original, right, (scores[0], scores[1]))


def scores_of(task: Task, found: Any) -> dict[str, Score]:
    """Every metric of the task that the data allow, by name. found: see `Metric`."""
    scores = {name: METRICS.named(name).score(found) for name in task.metrics}
    return {
        name: each if each.noun else each.model_copy(update={"noun": task.samples})
        for name, each in scores.items()
        if each is not None
    }


def _same(found: Labels, other: Labels) -> npt.NDArray[np.float64]:
    """1 for every sample with the same labels in both."""
    return np.asarray((found == other).all(1), np.float64)


def _accuracy(found: Judged) -> Score | None:
    right = _right(found)
    return None if right is None else share_of(right, found.count)


def _accuracy_drop(found: Judged) -> Score | None:
    right = _right(found)
    return None if right is None else drop_of(right, found.count)


def _top5(found: Judged) -> Score | None:
    right = _right_of_five(found)
    return None if right is None else share_of(right, found.count)


def _top5_drop(found: Judged) -> Score | None:
    right = _right_of_five(found)
    return None if right is None else drop_of(right, found.count)


def _right(found: Judged) -> Hits | None:
    """1 for every right answer, the artifact's and the original's."""
    truth = found.truth
    return None if truth is None else (_same(found.own, truth), _same(found.original, truth))


def _right_of_five(found: Judged) -> Hits | None:
    """1 where the right label is among the five likeliest; of two equal ones the first counts."""
    truth = found.truth
    if truth is None or truth.shape[1] <= _FIVE:
        return None
    own, original = (
        np.take_along_axis(truth, np.argsort(-rows, 1, kind="stable")[:, :_FIVE], 1).sum(1)
        for rows in found.scores
    )
    return own.astype(np.float64), original.astype(np.float64)


def share_of(right: Hits, count: int) -> Score:
    """The share of right answers."""
    own, original = (float(hits.mean()) for hits in right)
    return Score(value=own, bounds=share_bounds(own, count), original=original, samples=count)


def drop_of(right: Hits, count: int) -> Score:
    """The share of right answers that is lost, as a difference of pairs."""
    own, original = right
    lost, won = float((original > own).sum()), float((own > original).sum())
    return Score(
        value=(lost - won) / count,
        bounds=paired_bounds(lost, won, count),
        samples=count,
    )


def _macro_f1(found: Judged) -> Score | None:
    truth = found.truth
    if truth is None:
        return None
    bounds = resampled_bounds(found.count, lambda drawn: macro_f1(found.own[drawn], truth[drawn]))
    return Score(
        value=macro_f1(found.own, truth),
        bounds=bounds,
        original=macro_f1(found.original, truth),
        samples=found.count,
    )


def macro_f1(found: Labels, truth: Labels) -> float:
    """The mean over the classes that occur of 2 × hits / (given + right)."""
    hits = (found * truth).sum(0)
    total = found.sum(0) + truth.sum(0)
    occurs = total > 0
    return float((2 * hits[occurs] / total[occurs]).mean())


METRICS: Registry[Metric] = Registry(
    "metric",
    "edgeq.metrics",
    Metric,
    (
        Metric("agreement", lambda found: found.agreement()),
        Metric("accuracy", _accuracy),
        Metric("accuracy_drop", _accuracy_drop),
        Metric("macro_f1", _macro_f1),
        Metric("f1", lambda found: found.f1()),
        Metric("f1_drop", lambda found: found.f1_drop()),
        Metric("top5", _top5),
        Metric("top5_drop", _top5_drop),
        Metric("multiple_choice", lambda found: found.accuracy()),
        Metric("multiple_choice_norm", lambda found: found.normalized()),
        Metric("multiple_choice_drop", lambda found: found.drop()),
        Metric("map", detections.map_score),
        Metric("map_drop", detections.map_drop),
        Metric("wer", words.wer),
        Metric("wer_rise", words.wer_rise),
        Metric("order", rankings.order),
        Metric("ndcg", rankings.mean_of(rankings.ndcg_of)),
        Metric("ndcg_drop", rankings.drop_of(rankings.ndcg_of)),
        Metric("mrr", rankings.mean_of(rankings.reciprocal_rank_of)),
        Metric("mrr_drop", rankings.drop_of(rankings.reciprocal_rank_of)),
    ),
)
register_metric = METRICS.register
