"""Metrics of boxes on images: mean average precision, as COCO's evaluation computes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeq.formats.detections import Detector, Floats, Found, areas, intersections, shared
from edgeq.measure.intervals import share_bounds, weighted_bounds
from edgeq.measure.paired import paired_bounds
from edgeq.measure.records import Box, Redrawn, Score
from edgeq.recipe.file_sets import PreparedFiles, TrueBox

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Outputs = Mapping[str, npt.NDArray[Any]]
_T = TypeVar("_T")
OVERLAPS = np.linspace(0.5, 0.95, 10)
LEAST_SCORE = 0.001
"""The threshold for mAP, which takes nearly all boxes."""
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100  # boxes with one label on one image
_BLOCK = 64  # resamples at once
_SHOWN = 6  # images with other boxes


@dataclass(frozen=True)
class Truth:
    """The right boxes on one image, as in `Found`; is_crowd: boxes around several objects."""

    boxes: Floats
    labels: Integers
    is_crowd: Bools

    @classmethod
    def of(cls, found: Found) -> Truth:
        """What another model found, as the truth."""
        return cls(found.boxes, found.labels, np.zeros(len(found.labels), bool))


@dataclass(frozen=True)
class Detections:
    """Boxes on different images: the artifact's, the original's, and the right ones if known.

    own, original: down to `LEAST_SCORE`. threshold: of what apps get. names: of the images, sizes:
    their heights and widths, labels: the names of the classes.
    """

    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    labels: tuple[str, ...]
    own: tuple[Found, ...]
    original: tuple[Found, ...]
    truth: tuple[Truth, ...] | None
    threshold: float

    def agreement(self) -> Score | None:
        """mAP of the boxes that apps get, where the original's count as right."""
        own, original = self._for_apps()
        seen = Precision.of(own, [Truth.of(each) for each in original], len(self.labels))
        value = seen.mean()
        return None if value is None else _score(value, seen)

    def changed(self) -> tuple[Redrawn, ...]:
        """The first images on which a box appears, disappears or gets another label."""
        both = zip(self.names, self.sizes, *self._for_apps(), strict=True)
        other = (each for each in both if _differs(each[2], each[3]))
        return tuple(
            Redrawn(
                image=name,
                height=size[0],
                width=size[1],
                was=_listed(original, self.labels),
                now=_listed(own, self.labels),
            )
            for (name, size, own, original), _ in zip(other, range(_SHOWN), strict=False)
        )

    def _for_apps(self) -> tuple[list[Found], list[Found]]:
        own, original = (
            [each.above(self.threshold) for each in found] for found in (self.own, self.original)
        )
        return own, original


@dataclass(frozen=True)
class Precision:
    """The matches of boxes with the right ones, by label, ready to be averaged."""

    images: int
    by_label: tuple[_Matches, ...] = field(repr=False)

    @classmethod
    def of(cls, found: Sequence[Found], truth: Sequence[Truth], labels: int) -> Precision:
        """Compare the boxes on each image."""
        pairs = [*zip(found, truth, strict=True)]
        return cls(len(pairs), tuple(_Matches.of(pairs, label) for label in range(labels)))

    def mean(self) -> float | None:
        """The mean over labels and overlaps; None if nothing is there to be found."""
        (value,) = self.means(np.ones((1, self.images)))
        return None if np.isnan(value) else float(value)

    def means(self, weights: Floats) -> Floats:
        """The same of resamples, NaN for none; weights: of images, (resamples, images)."""
        total = np.zeros(len(weights))
        known = np.zeros(len(weights))
        for part in self.by_label:
            precision = part.precisions(weights)
            total += np.nan_to_num(precision)
            known += ~np.isnan(precision)
        empty = np.full(len(weights), np.nan)
        return np.asarray(np.divide(total, known, out=empty, where=known > 0))


@dataclass(frozen=True)
class _Matches:
    """One label's boxes on all images, the highest score first.

    images: of each box, its image. hits, ignored: (overlaps, boxes). wanted: how many objects each
    image has.
    """

    images: npt.NDArray[np.intp]
    hits: Bools
    ignored: Bools
    wanted: Floats

    @classmethod
    def of(cls, pairs: Sequence[tuple[Found, Truth]], label: int) -> _Matches:
        parts, wanted = [], []
        for found, truth in pairs:
            own, right = found.labels == label, truth.labels == label
            is_crowd = truth.is_crowd[right]
            hits, ignored = _match(found.boxes[own][:_MOST], truth.boxes[right], is_crowd)
            parts.append((found.scores[own][:_MOST], hits, ignored))
            wanted.append(float((~is_crowd).sum()))
        scores = np.concatenate([part[0] for part in parts])
        images = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        order = np.argsort(-scores, kind="stable")
        hits, ignored = (np.concatenate([part[i] for part in parts], 1)[:, order] for i in (1, 2))
        return cls(images[order], hits, ignored, np.array(wanted))

    def precisions(self, weights: Floats) -> Floats:
        """The average precision of each resample, NaN for one without objects."""
        blocks = np.array_split(weights, range(_BLOCK, len(weights), _BLOCK))
        return np.concatenate([self._precisions(block) for block in blocks])

    def _precisions(self, weights: Floats) -> Floats:
        wanted = weights @ self.wanted
        # Precision falls between hits, so only there can it be the best from a recall on.
        at = np.flatnonzero(self.hits.any(0))
        each = weights[:, self.images]
        right = np.cumsum(each[:, None, at] * self.hits[:, at], 2)
        counted = np.cumsum(each, 1)[:, None, at]
        if self.ignored.any():
            counted = np.cumsum(each[:, None] * ~self.ignored, 2)[:, :, at]
        shares = np.divide(right, counted, out=np.zeros_like(right), where=right > 0)
        best = np.maximum.accumulate(shares[:, :, ::-1], 2)[:, :, ::-1]
        recalls = right / np.where(wanted > 0, wanted, 1)[:, None, None]
        # How many of the 101 recalls each hit is the first to reach.
        reached = np.searchsorted(_RECALLS, recalls, "right") * (recalls > 0)
        steps = np.diff(reached, axis=2, prepend=0)
        mean = (best * steps).sum((1, 2)) / (len(_RECALLS) * len(OVERLAPS))
        return np.where(wanted > 0, mean, np.nan)


def compared(
    detector: Detector, images: PreparedFiles, own: Iterable[Outputs], original: Iterable[Outputs]
) -> Detections:
    """The answers to each image as boxes; a repeated image counts once."""
    first = sorted({name: i for i, name in reversed([*enumerate(images.names)])}.values())

    def found(answers: Iterable[Outputs]) -> list[Found]:
        least = min(LEAST_SCORE, detector.settings.threshold)
        both = zip(answers, images.sizes, strict=True)
        return [detector.found(outputs, size, least) for outputs, size in both]

    def chosen(each: Sequence[_T]) -> tuple[_T, ...]:
        return tuple(each[index] for index in first)

    labels = detector.classes.labels
    truth = None if images.boxes is None else [_truth(each, labels) for each in images.boxes]
    return Detections(
        names=chosen(images.names),
        sizes=chosen(images.sizes),
        labels=labels,
        own=chosen(found(own)),
        original=chosen(found(original)),
        truth=None if truth is None else chosen(truth),
        threshold=detector.settings.threshold,
    )


def _truth(boxes: Sequence[TrueBox], labels: Sequence[str]) -> Truth:
    return Truth(
        np.array([each.box for each in boxes], np.float64).reshape(-1, 4),
        np.array([labels.index(each.label) for each in boxes], np.int64),
        np.array([each.is_crowd for each in boxes], bool),
    )


def map_score(found: Detections) -> Score | None:
    """mAP 50:95 on annotated images, and the original's."""
    both = _both(found)
    value = both[0].mean() if both else None
    if both is None or value is None:
        return None
    return _score(value, both[0]).model_copy(update={"original": both[1].mean()})


def map_drop(found: Detections) -> Score | None:
    """The original's mAP minus the artifact's, on the same images."""
    both = _both(found)
    if both is None:
        return None
    own, original = both
    value, other = own.mean(), original.mean()
    if value is None or other is None:
        return None
    count = len(found.names)
    bounds = weighted_bounds(count, lambda drawn: original.means(drawn) - own.means(drawn))
    if bounds is not None and bounds.low == bounds.high == 0:  # what no image shows, another may
        bounds = paired_bounds(0, 0, count)
    return Score(value=other - value, bounds=bounds, samples=count)


def _score(value: float, seen: Precision) -> Score:
    bounds = weighted_bounds(seen.images, seen.means)
    if bounds is not None and value in (0, 1):  # what no image shows, another may
        bounds = share_bounds(value, seen.images)
    return Score(value=value, bounds=bounds, samples=seen.images)


def _both(found: Detections) -> tuple[Precision, Precision] | None:
    """The artifact's and the original's; None for images without annotations."""
    if found.truth is None:
        return None
    truth, labels = found.truth, len(found.labels)
    return Precision.of(found.own, truth, labels), Precision.of(found.original, truth, labels)


def _match(boxes: Floats, right: Floats, is_crowd: Bools) -> tuple[Bools, Bools]:
    """Which boxes hit an object, and which count neither way: (overlaps, boxes).

    Boxes in the order of their scores; each takes the object that it overlaps most and that none
    took before.
    """
    hits, ignored = np.zeros((2, len(OVERLAPS), len(boxes)), bool)
    if not len(boxes) or not len(right):
        return hits, ignored
    single, crowds = right[~is_crowd], right[is_crowd]
    overlaps = shared(boxes, single)
    own = np.maximum(areas(boxes), np.finfo(float).tiny)[:, None]
    within = (intersections(boxes, crowds) / own).max(1, initial=0)
    for row, least in enumerate(OVERLAPS):
        is_free = np.ones(len(single), bool)
        for index in range(len(boxes)):
            near = np.where(is_free, overlaps[index], -1.0)
            best = int(near.argmax()) if len(single) else -1
            if best >= 0 and near[best] >= least:
                hits[row, index], is_free[best] = True, False
            else:
                ignored[row, index] = within[index] >= least
    return hits, ignored


def _differs(own: Found, original: Found) -> bool:
    """Whether one has a box that the other has not: the same label, and half of it shared."""
    if len(own.labels) != len(original.labels):
        return True
    return any(
        not _match(
            own.boxes[own.labels == label],
            original.boxes[original.labels == label],
            np.zeros((original.labels == label).sum(), bool),
        )[0][0].all()
        for label in {*own.labels.tolist(), *original.labels.tolist()}
    )


def _listed(found: Found, labels: Sequence[str]) -> tuple[Box, ...]:
    return tuple(
        Box(label=labels[label], score=score, box=(box[0], box[1], box[2], box[3]))
        for box, label, score in zip(
            found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
        )
    )
