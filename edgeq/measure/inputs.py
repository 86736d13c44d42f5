"""Inputs of the measuring passes: the evaluation data, in the form that workers take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.core.artifact import TOKENIZER_FILE, Artifact, Classes
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.known_settings import STATE_KEY
from edgeq.core.tasks import task_of
from edgeq.core.terms import TextOrPair
from edgeq.core.validation_messages import suggest
from edgeq.formats.entities import kinds
from edgeq.formats.text import TextEncoder
from edgeq.formats.timed_feed import sequence
from edgeq.measure import arrays, text_passes
from edgeq.measure.choices import continuations
from edgeq.recipe import array_sets, data_sets
from edgeq.recipe.budgets import Workload
from edgeq.recipe.file_sets import (
    ANNOTATIONS_FILE,
    PREPARED_ARRAYS,
    PreparedFiles,
    read_prepared,
)
from edgeq.recipe.query_sets import read_queries
from edgeq.recipe.question_sets import Question
from edgeq.recipe.samples import chosen_rows
from edgeq.recipe.sequences import sequences
from edgeq.recipe.tagged_sets import Span, read_tagged

_TEXT_FOR_TIMING = 4000  # characters: more than 128 tokens of any relevant tokenizer


@dataclass(frozen=True)
class Evaluation:
    """The data set for quality: texts, scored pairs, arrays, prepared images, or one long text.

    samples: how many to use; for the long text of a language model, windows. See calibration.data.
    questions: for language models, in addition. only_timed: whether it is only the input of timed
    runs.
    """

    path: Path
    samples: int | None = None
    questions: tuple[Question, ...] = ()
    only_timed: bool = False

    @property
    def arrays(self) -> Path:
        """The file with the arrays of a model that takes some."""
        return self.path / PREPARED_ARRAYS if self.path.is_dir() else self.path


@dataclass(frozen=True)
class Given:
    """The inputs of the passes, by `Request`'s names; scores or labels if there are any.

    scores: of pairs of sentences, or the relevance of a reranker's texts.
    spans: the labelled parts of a tagger's texts. encoder: of a tagger's texts, or a recogniser's.
    questions: and, as a request, the tokens of their choices, `asked`.
    names: of samples that get labels: the texts themselves, or the files of images.
    files: the images or recordings that a model gets, and what is known of them.
    """

    timed: dict[str, Any] = field(default_factory=dict)
    judged: dict[str, Any] | None = None
    scores: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    spans: tuple[tuple[Span, ...], ...] | None = None
    names: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    asked: dict[str, Any] = field(default_factory=dict)
    encoder: TextEncoder | None = None
    files: PreparedFiles | None = None


def given_to_language_model(
    evaluation: Evaluation | None,
    float_dir: Path,
    artifact: Artifact,
    workload: Workload,
    reference: Path,
) -> Given:
    """Inputs of a language model's passes: the beginning of a text, or all of it.

    reference: recorded answers, or the artifact that gives them.

    Raises InvalidInput for a text that is too short.
    """
    timed: dict[str, Any] = {"workload": workload.model_dump()}
    if evaluation is None:
        return Given(timed)
    text = data_sets.read_corpus(evaluation.path)
    window = workload.window
    text_passes.check_corpus(float_dir, artifact, evaluation.path, evaluation.samples, window)
    judged = {
        **timed,
        "reference": reference.absolute(),
        "corpus": evaluation.path.absolute(),
        "samples": evaluation.samples,
    }
    tokens = text_passes.tokenizer_of(float_dir, artifact)
    asked = continuations(
        tokens, evaluation.questions, workload.context, "data.questions: the question"
    )
    return Given(
        {**timed, "text": text[:_TEXT_FOR_TIMING]},
        judged,
        questions=evaluation.questions,
        asked={**timed, "asked": asked},
    )


def given_samples(
    evaluation: Evaluation | None, directory: Path, artifact: Artifact, folder: Path
) -> Given:
    """Inputs of other models' passes; a memory pass gets nothing large.

    folder: for files that workers read. Raises InvalidInput for data that do not fit.
    """
    if evaluation is None:
        return Given()
    path, samples = evaluation.arrays, evaluation.samples
    if artifact.text is None:
        ranks = {value.name: len(value.shape) for value in artifact.inputs}
        held, state = array_sets.read_arrays(path, samples), artifact.settings.get(STATE_KEY)
        if state:
            (first, *_) = next(sequences(path, held, artifact.inputs, state))
        else:
            first = next(array_sets.feeds(path, held, ranks))
        feed = folder / "feed.npy"
        arrays.write_arrays(feed, [first[value.name] for value in artifact.inputs])
        if evaluation.only_timed:
            return Given({"feed": feed})
        judged = {"arrays": path.absolute(), "samples": samples}
        task = task_of(artifact.task)
        if task.detects or task.transcribes:
            files, reader = _known_files(evaluation, artifact.classes), None
            if artifact.decoding is not None:
                content = (directory / TOKENIZER_FILE).read_bytes()
                reader = TextEncoder(content, artifact.decoding.length)
            return Given({"feed": feed}, judged, files=files, encoder=reader)
        labels, names = _of_images(evaluation, artifact.classes)
        return Given({"feed": feed}, judged, labels=labels, names=names)
    texts: tuple[TextOrPair, ...]
    if task_of(artifact.task).ranks:
        found = read_queries(path, samples)
        texts, scores = found.pairs, found.relevance
    else:
        texts, scores = evaluation_texts(evaluation)
    parts = (part for text in texts for part in ((text,) if isinstance(text, str) else text))
    text = " ".join(parts)[:_TEXT_FOR_TIMING]
    timed: dict[str, Any] = {"text": text}
    if TOKENIZER_FILE in artifact.files:  # a separate file, whose memory can be identified
        feed = folder / "feed.npy"
        encoder = TextEncoder((directory / TOKENIZER_FILE).read_bytes(), artifact.text.max_tokens)
        inputs = [value.name for value in artifact.inputs]
        filled = sequence(encoder.feeds(text, inputs), artifact.text.max_tokens)
        arrays.write_arrays(feed, [filled[name] for name in inputs])
        timed["feed"] = feed
    labels = spans = reader = None
    if artifact.classes is not None and task_of(artifact.task).tags:
        spans = evaluation_spans(evaluation, artifact.classes)
        content = (directory / TOKENIZER_FILE).read_bytes()
        reader = TextEncoder(content, artifact.text.max_tokens)
    elif artifact.classes is not None:
        labels = evaluation_labels(evaluation, artifact.classes)
    names = tuple(text for text in texts if isinstance(text, str))
    return Given(timed, {"texts": texts}, scores, labels, spans, names, encoder=reader)


def _of_images(
    evaluation: Evaluation, classes: Classes | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The right labels of images, if they have some, and their names; none for other data."""
    if classes is None:
        return None, ()
    found = read_prepared(evaluation.path)
    rows = chosen_rows(evaluation.path, len(found.names), evaluation.samples)
    names = tuple(found.names[row] for row in rows)
    if found.labels is None:
        return None, names
    labels = tuple(found.labels[row] for row in rows)
    return _known(labels, classes.labels, "a directory of the evaluation data"), names


def _known_files(evaluation: Evaluation, classes: Classes | None) -> PreparedFiles:
    """Images or recordings and what is known of them, in labels that the model has."""
    found = read_prepared(evaluation.path)
    labels = {box.label for image in found.boxes or () for box in image}
    if classes is not None:
        _known(tuple(sorted(labels)), classes.labels, f"{ANNOTATIONS_FILE} of the evaluation data")
    return found


def evaluation_texts(evaluation: Evaluation) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    """The texts of an encoder's evaluation data, and the scores of pairs if there are any."""
    path, samples = evaluation.path, evaluation.samples
    if path.suffix in data_sets.PAIR_SUFFIXES and data_sets.has_pairs(path):
        pairs = data_sets.read_pairs(path, samples)
        return (*pairs.first, *pairs.second), pairs.scores
    return tuple(data_sets.read_texts(path, samples)), None


def evaluation_labels(evaluation: Evaluation, classes: Classes) -> tuple[str, ...] | None:
    """The right label of each text; None where the data have none.

    Raises InvalidInput for a label that the model does not know.
    """
    labels = data_sets.read_labels(evaluation.path, evaluation.samples)
    return _known(labels, classes.labels, str(evaluation.path)) if labels is not None else None


def evaluation_spans(
    evaluation: Evaluation, classes: Classes
) -> tuple[tuple[Span, ...], ...] | None:
    """The labelled parts of each text; None where the data have none.

    Raises InvalidInput for a label that the model does not know.
    """
    spans = read_tagged(evaluation.path, evaluation.samples).spans
    labels = tuple(label for each in spans or () for _, _, label in each)
    _known(labels, kinds(classes.labels), str(evaluation.path))
    return spans


def _known(labels: tuple[str, ...], known: tuple[str, ...], where: str) -> tuple[str, ...]:
    unknown = next((label for label in labels if label not in known), None)
    if unknown is not None:
        what = f"the label {unknown!r} is not one of the model's"
        raise InvalidInput(Problem(where, what, suggest(unknown, known)))
    return labels
