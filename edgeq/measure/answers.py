"""What an artifact's answers mean for users, compared with the original's: labels, boxes, texts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.core.artifact import Artifact
from edgeq.core.tasks import task_of
from edgeq.formats.audio import text_of
from edgeq.formats.base import Array
from edgeq.formats.detections import detector_of
from edgeq.measure import arrays, detections, rankings, tags
from edgeq.measure.inputs import Given
from edgeq.measure.metrics import judged, scores_of
from edgeq.measure.records import Changed, Confused, Redrawn, Score
from edgeq.measure.words import Transcripts


@dataclass(frozen=True)
class Seen:
    """The task's metrics, and samples with another answer."""

    scores: dict[str, Score] = field(default_factory=dict)
    changed: tuple[Changed, ...] = ()
    confused: tuple[Confused, ...] = ()
    redrawn: tuple[Redrawn, ...] = ()


def compared_answers(artifact: Artifact, data: Given, own: Path, original: Path) -> Seen:
    """Compare the outputs in two files, of the artifact and the original, on the same samples."""
    task, classes = task_of(artifact.task), artifact.classes
    if task.detects:
        return _boxes(artifact, data, own, original)
    if task.transcribes:
        return _texts(artifact, data, own, original)
    answers, references = ([*arrays.read_arrays(file)] for file in (own, original))
    if task.ranks:
        ranked = rankings.ranked((data.judged or {})["texts"], answers, references, data.scores)
        return Seen(scores_of(task, ranked))
    if task.classifies and classes is not None:
        labelled = judged(data.names, answers, references, classes, data.labels)
        return Seen(scores_of(task, labelled), labelled.changed(), labelled.confused())
    if task.tags and classes is not None and data.encoder is not None:
        both = (answers, references)
        parts = tags.tagged(data.names, both, data.encoder, classes, data.spans)
        return Seen(scores_of(task, parts), parts.changed())
    return Seen()


def _boxes(artifact: Artifact, data: Given, own: Path, original: Path) -> Seen:
    detector, names = detector_of(artifact), [value.name for value in artifact.outputs]
    if detector is None or data.files is None:
        return Seen()
    both = (arrays.by_sample(file, names) for file in (own, original))
    found = detections.compared(detector, data.files, *both)
    return Seen(scores_of(task_of(artifact.task), found), redrawn=found.changed())


def _texts(artifact: Artifact, data: Given, own: Path, original: Path) -> Seen:
    """A repeated recording counts once."""
    files, read = data.files, _reader(artifact, data)
    if files is None or read is None:
        return Seen()
    first = sorted({name: i for i, name in reversed([*enumerate(files.names)])}.values())
    texts = [[*map(read, arrays.read_arrays(file))] for file in (own, original)]
    columns = (files.names, *texts, files.texts)
    names, now, was, truth = (
        None if column is None else tuple(column[index] for index in first) for column in columns
    )
    found = Transcripts(names or (), now or (), was or (), truth)
    return Seen(scores_of(task_of(artifact.task), found), found.changed())


def _reader(artifact: Artifact, data: Given) -> Callable[[Array], str] | None:
    """What makes a text of an output."""
    settings, classes = artifact.transcription, artifact.classes
    if settings is not None and classes is not None:
        return functools.partial(text_of, settings=settings, labels=classes.labels)
    encoder, decoding = data.encoder, artifact.decoding
    if encoder is None or decoding is None:
        return None
    return lambda tokens: encoder.text(tokens.tolist(), tidy=decoding.tidy)
