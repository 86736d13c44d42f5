"""From a detector's outputs to boxes on the image, as `DetectionSettings` say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import Artifact, Classes
from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.images import ImageSettings
from edgeq.formats.base import Detected

Floats = npt.NDArray[np.float64]
_CANDIDATES = 30_000  # with the highest scores, that suppression looks at


@dataclass(frozen=True)
class Found:
    """The boxes on one image, the highest score first.

    boxes: (n, 4), left, top, right and bottom in the image's own pixels. labels: their numbers.
    """

    boxes: Floats
    labels: npt.NDArray[np.int64]
    scores: Floats

    def above(self, threshold: float) -> Found:
        """Those with at least this score."""
        kept = self.scores >= threshold
        return Found(self.boxes[kept], self.labels[kept], self.scores[kept])


@dataclass(frozen=True)
class Detector:
    """What a record says of a detector's answers."""

    settings: DetectionSettings
    image: ImageSettings
    classes: Classes

    def found(
        self,
        outputs: Mapping[str, npt.NDArray[Any]],
        size: tuple[int, int],
        threshold: float | None = None,
    ) -> Found:
        """The boxes on an image of this height and width.

        threshold: instead of the record's. Raises InvalidInput for outputs that do not fit.
        """
        settings, where = self.settings, f"output {self.settings.boxes!r}"
        width = settings.width(len(self.classes.labels))
        rows = _as_rows(outputs[settings.boxes], width, where, transposed=settings.transposed)
        scores, labels = self._scored(rows, outputs)
        if settings.several_labels:
            rows = np.repeat(rows, len(self.classes.labels), 0)
        if not len(rows) == len(scores) == len(labels):
            what = f"has {len(rows)} boxes, and there are {len(scores)} scores"
            raise InvalidInput(Problem(where, what, "correct model.detection"))
        least = settings.threshold if threshold is None else threshold
        at = np.flatnonzero((scores >= least) & (labels >= 0) & np.isfinite(rows[:, :4]).all(1))
        at = at[np.argsort(-scores[at], kind="stable")][:_CANDIDATES]
        if at.size and labels[at].max() >= len(self.classes.labels):
            what = f"the model found an object of class {labels[at].max()}, counted from 0"
            raise InvalidInput(Problem("labels", what, "name all of the model's classes"))
        boxes, scores, labels = _corners(rows[at, :4], settings.box), scores[at], labels[at]
        kept = self._unsuppressed(boxes, labels)[: settings.most]
        return Found(self._on_image(boxes[kept], size), labels[kept], scores[kept])

    def named(self, found: Found) -> list[Detected]:
        """The boxes with the names of their labels."""
        return [
            Detected(self.classes.labels[label], score, (box[0], box[1], box[2], box[3]))
            for box, label, score in zip(
                found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
            )
        ]

    def _scored(
        self, rows: Floats, outputs: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """The score and the number of the label of each box; −1 for no object.

        For each label of each box, one after the other, if it can have several.
        """
        settings, count = self.settings, len(self.classes.labels)
        first = int(settings.background == "first")
        if settings.names_class:
            if settings.classes is None or settings.scores is None:
                scores, labels = rows[:, 4], rows[:, 5]
            else:
                scores = outputs[settings.scores].ravel().astype(np.float64)
                labels = outputs[settings.classes].ravel().astype(np.float64)
            scores = self.classes.probabilities(scores)
            numbers = np.where(np.isfinite(labels), labels, -1).astype(np.int64) - first
            is_nothing = (numbers == count) & (settings.background == "last")
            return scores, np.where(is_nothing, -1, numbers)
        if settings.scores is not None:
            where = f"output {settings.scores!r}"
            columns = settings.columns(count)
            values = _as_rows(outputs[settings.scores], columns, where, transposed=False)
        else:
            values = rows[:, 4 + settings.row.index("scores") - 1 :]
        values = self.classes.probabilities(values)
        if "objectness" in settings.row:
            values = values * self.classes.probabilities(rows[:, 4:5])
        values = values[:, first : first + count]
        if settings.several_labels:
            return values.ravel(), np.tile(np.arange(count), len(values))
        labels = values.argmax(1)
        return values[np.arange(len(values)), labels], labels

    def _unsuppressed(self, boxes: Floats, labels: npt.NDArray[np.int64]) -> list[int]:
        """The positions that suppression leaves, of boxes in the order of their scores."""
        overlap = self.settings.overlap
        if overlap is None:
            return [*range(len(boxes))]
        left, kept = np.ones(len(boxes), bool), []
        for index in range(len(boxes)):
            if not left[index]:
                continue
            kept.append(index)
            if len(kept) == self.settings.most:
                break
            after = np.flatnonzero(left[index + 1 :]) + index + 1
            if not self.settings.across_labels:
                after = after[labels[after] == labels[index]]
            left[after[shared(boxes[index][None], boxes[after])[0] > overlap]] = False
        return kept

    def _on_image(self, boxes: Floats, size: tuple[int, int]) -> Floats:
        """From the input to the image's own pixels, cut off at its edges."""
        height, width = size
        place = self.image.placed(height, width)
        if self.settings.unit == "fractions":
            boxes = boxes * np.array(self.image.size[::-1] * 2)
        corner = np.array([place.left, place.top] * 2)
        ratio = np.array([width / place.width, height / place.height] * 2)
        return np.asarray(np.clip((boxes - corner) * ratio, 0, [width, height] * 2))


def detector_of(artifact: Artifact) -> Detector | None:
    """What the record says of a detector; None for other models."""
    if artifact.detection is None or artifact.image is None or artifact.classes is None:
        return None
    return Detector(artifact.detection, artifact.image, artifact.classes)


def shared(boxes: Floats, others: Floats) -> Floats:
    """The intersection of each two boxes divided by their union: (boxes, others).

    >>> float(shared(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]]))[0, 0]).__round__(3)
    0.333
    """
    common = intersections(boxes, others)
    union = areas(boxes)[:, None] + areas(others) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def intersections(boxes: Floats, others: Floats) -> Floats:
    """The areas that each two boxes share: (boxes, others)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(2))


def areas(boxes: Floats) -> Floats:
    """The area of each box."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(1))


def _as_rows(output: npt.NDArray[Any], width: int, where: str, *, transposed: bool) -> Floats:
    """A row for each box, of the numbers of one image."""
    axis = -2 if transposed else -1
    if output.ndim < 2 or output.shape[axis] != width or output.size != np.prod(output.shape[-2:]):
        what = f"has the shape {output.shape}, not {width} numbers for each box of one image"
        raise InvalidInput(Problem(where, what, "correct model.detection"))
    rows = output.reshape(output.shape[-2:])
    return np.asarray(rows.T if transposed else rows, np.float64)


def _corners(boxes: Floats, form: str) -> Floats:
    """Boxes as left, top, right and bottom."""
    if form == "xyxy":
        return boxes
    if form == "yxyx":
        return boxes[:, [1, 0, 3, 2]]
    first, size = boxes[:, :2], boxes[:, 2:]
    if form == "cxcywh":
        first = first - size / 2
    return np.concatenate([first, first + size], 1)
