"""Models from text to a vector and from arrays to arrays, for every runtime."""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import TOKENIZER_FILE, Artifact, Classes, ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.known_settings import SAMPLE_KEY
from edgeq.core.tasks import task_of
from edgeq.core.terms import TextOrPair
from edgeq.formats.audio import AnyAudio, prepared_audio, text_of
from edgeq.formats.base import Aggregation, Array, Classified, Detected, Entity, Model, Ranked
from edgeq.formats.detections import detector_of
from edgeq.formats.entities import entities
from edgeq.formats.images import AnyImage, opened, prepared
from edgeq.formats.package import Package
from edgeq.formats.text import TextEncoder, prompted

_FREE_SIZE = 8  # of dimensions that neither the model nor its record tells


class SampleModel(Model, ABC):
    """One artifact with its tokenizer. Safe to use from several threads.

    Subclasses implement `run`, and set the other attributes of `Model`.
    """

    verbs = "embed() or run()"
    artifact: Artifact

    def __init__(self, package: Package) -> None:
        self.artifact, self.name = package.artifact, package.artifact.name
        self._inputs = [value.name for value in package.artifact.inputs]
        self._package = package
        task = task_of(self.artifact.task)
        self.kind, verb = task.noun, task.verb
        self.verbs = "run()" if verb == "run" else f"{verb}() or run()"

    @abstractmethod
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once on arrays keyed by input name; outputs are keyed by output name.

        Integers of another width are converted if they fit, and float64 is narrowed to float32 if
        the model takes that. Raises InvalidInput naming each input that is missing, unknown, or of
        a wrong type or shape.
        """

    def embed(
        self, texts: Sequence[str], *, prompt: str | None = None, prompt_name: str | None = None
    ) -> npt.NDArray[np.float32]:
        """See `Model.embed`.

        Texts are run one at a time: activations are quantized over the whole tensor, so in a batch
        neighbours and padding would change an embedding. Longer texts are cut at
        `artifact.text.max_tokens`.
        """
        encoder = self._encoder
        if self.artifact.dimension is None:
            raise self._unfit("embed")
        require_list(texts)
        result = np.empty((len(texts), self.artifact.dimension or 0), np.float32)
        name = self.artifact.outputs[0].name
        for index, text in enumerate(prompted(self.artifact.text, texts, prompt, prompt_name)):
            feeds = encoder.feeds(text, self._inputs, f"texts[{index}]")
            result[index] = self.run(feeds)[name][0]
        return result

    def classify(self, samples: Sequence[str] | Sequence[AnyImage]) -> list[Classified]:
        """See `Model.classify`. Samples are run one at a time, as by `embed`."""
        classes = self.artifact.classes
        if classes is None or not task_of(self.artifact.task).classifies:
            raise self._unfit("classify")
        is_image = self.artifact.image is not None
        require_list(samples, "images" if is_image else "texts")
        name = self.artifact.outputs[0].name
        found = []
        for index, sample in enumerate(samples):
            if is_image:
                feeds = self.preprocess(sample, place(sample, f"images[{index}]"))
            else:
                feeds = self._encoder.feeds(str(sample), self._inputs, f"texts[{index}]")
            found.append(_classified(classes, self.run(feeds)[name]))
        return found

    def tag(
        self, texts: Sequence[str], *, aggregation: Aggregation = "simple"
    ) -> list[tuple[Entity, ...]]:
        """See `Model.tag`. Texts are run one at a time, as by `embed`."""
        classes, encoder = self.artifact.classes, self._encoder
        if classes is None or not task_of(self.artifact.task).tags:
            raise self._unfit("tag")
        require_list(texts)
        name, found = self.artifact.outputs[0].name, []
        for index, text in enumerate(texts):
            encoded = encoder.encoded(text, f"texts[{index}]")
            output = self.run(encoder.feeds(text, self._inputs))[name][0]
            found.append(entities(text, encoder, encoded, output, classes, aggregation))
        return found

    def detect(self, images: Sequence[AnyImage]) -> list[list[Detected]]:
        """See `Model.detect`. Images are run one at a time, as texts by `embed`."""
        detector = detector_of(self.artifact)
        if detector is None:
            raise self._unfit("detect")
        require_list(images, "images")
        answers = []
        for index, given in enumerate(images):
            where = place(given, f"images[{index}]")
            image = opened(given, where)
            outputs = self.run(self.preprocess(image, where))
            found = detector.found(outputs, (image.height, image.width))
            answers.append(detector.named(found))
        return answers

    def transcribe(self, recordings: Sequence[AnyAudio]) -> list[str]:
        """See `Model.transcribe`. Recordings are run one at a time, as texts by `embed`."""
        record = self.artifact
        if record.audio is None or record.transcription is None or record.classes is None:
            raise self._unfit("transcribe")
        require_list(recordings, "recordings")
        (value,), texts = record.inputs, []
        for index, given in enumerate(recordings):
            where = place(given, f"recordings[{index}]")
            feed = prepared_audio(given, record.audio, value, where)
            output = self.run({value.name: feed})[record.outputs[0].name]
            texts.append(text_of(output, record.transcription, record.classes.labels))
        return texts

    def rank(self, query: str, texts: Sequence[str]) -> list[Ranked]:
        """See `Model.rank`. Pairs are run one at a time, as texts by `embed`."""
        if not task_of(self.artifact.task).ranks:
            raise self._unfit("rank")
        require_list(texts)
        name, found = self.artifact.outputs[0].name, []
        for index, text in enumerate(texts):
            feeds = self._encoder.feeds((query, text), self._inputs, f"texts[{index}]")
            found.append(Ranked(index, text, float(self.run(feeds)[name].ravel()[0])))
        return sorted(found, key=lambda each: -each.score)

    def preprocess(self, image: AnyImage, where: str = "image") -> dict[str, Array]:
        """See `Model.preprocess`."""
        if self.artifact.image is None:
            raise self._unfit("preprocess")
        (value,) = self.artifact.inputs
        return {value.name: prepared(image, self.artifact.image, value, where)}

    def tokens(self, text: str) -> list[int]:
        """Token ids of `text` with special tokens, truncated at `artifact.text.max_tokens`."""
        return self._encoder.ids(text, "text")

    def tokenize(self, text: TextOrPair) -> dict[str, npt.NDArray[np.int64]]:
        """The inputs for one text, or for a query and a text: int64 arrays of shape (1, tokens)."""
        return self._encoder.feeds(text, self._inputs)

    @functools.cached_property
    def _encoder(self) -> TextEncoder:
        """Opened with the first text: it takes as much memory as some models."""
        text = self.artifact.text
        if text is None:
            what = f"its task is {self.artifact.task!r}, not text"
            raise InvalidInput(Problem(self.artifact.name, what, "use run() with arrays"))
        if TOKENIZER_FILE not in self.artifact.files:
            what = f"its record names no {TOKENIZER_FILE}"
            raise InvalidInput(Problem(str(self._package.path), what, "build it again"))
        return TextEncoder(self._package.read(TOKENIZER_FILE), text.max_tokens)

    def _fitted(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """`feeds` in the model's types; raises InvalidInput with all that cannot be converted."""
        ready, problems = {}, []
        for value in self.artifact.inputs:
            if value.name not in feeds:
                problems.append(Problem(f"input {value.name!r}", "is missing", wanted(value)))
                continue
            try:
                ready[value.name] = fit(np.asarray(feeds[value.name]), value)
            except InvalidInput as error:
                problems.extend(error.problems)
        for name in feeds:
            if name not in self._inputs:
                remedy = f"the model's inputs are: {', '.join(self._inputs)}"
                problems.append(Problem(f"input {name!r}", "is not an input", remedy))
        if problems:
            raise InvalidInput(problems)
        return ready


def _classified(classes: Classes, output: Array) -> Classified:
    """output: (1, classes)."""
    labels, chosen = classes.labels, classes.chosen(output)[0]
    return Classified(
        label=labels[int(output[0].argmax())],
        labels=tuple(label for label, has in zip(labels, chosen, strict=True) if has),
        probabilities=dict(zip(labels, classes.probabilities(output)[0].tolist(), strict=True)),
    )


def require_list(given: object, noun: str = "texts") -> None:
    """Raise InvalidInput for a single text or file instead of a list."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        examples = {"images": "'photo.jpg'", "recordings": "'speech.wav'"}
        remedy = f"give a list: [{examples.get(noun, repr('a text'))}]"
        raise InvalidInput(Problem(noun, f"is a {type(given).__name__}", remedy))


def place(given: object, item: str) -> str:
    """Where an image or a recording is, for errors: its path, or `item` of a list."""
    return os.fspath(given) if isinstance(given, str | os.PathLike) else item


def fit(array: Array, value: ValueInfo) -> Array:
    """`array` converted for `value`, if that loses nothing except float64's precision.

    Raises InvalidInput for another dtype or shape.
    """
    where = f"input {value.name!r}"
    if not _casts(array, np.dtype(value.dtype)):
        raise InvalidInput(Problem(where, f"has dtype {array.dtype}", wanted(value)))
    fits = len(array.shape) == len(value.shape) and all(
        isinstance(size, str) or size == given
        for given, size in zip(array.shape, value.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(Problem(where, f"has shape {array.shape}", wanted(value)))
    return np.ascontiguousarray(array, value.dtype).reshape(array.shape)


def made_up(
    inputs: Sequence[ValueInfo],
    settings: Mapping[str, Any],
    rng: np.random.Generator,
    integer: int = 0,
) -> dict[str, Array]:
    """Normal floats and equal integers, as far as the record tells in shapes that the model takes.

    settings: of the record. integer: of inputs that it tells none for.
    """
    feed = {}
    for value in inputs:
        known = (settings.get(SAMPLE_KEY) or {}).get(value.name) or {}
        free = [size if isinstance(size, int) else _FREE_SIZE for size in value.shape]
        shape = tuple(known.get("shape", free))
        number = known.get("integer")
        floating = np.issubdtype(np.dtype(value.dtype), np.floating)
        filling = integer if number is None else number
        array = rng.standard_normal(shape) if floating else np.full(shape, filling)
        feed[value.name] = np.asarray(array).astype(value.dtype)
    return feed


def wanted(value: ValueInfo) -> str:
    """The requirements of an input, for a remedy."""
    shape = ", ".join(map(str, value.shape))
    return f"the model takes {value.dtype} of shape ({shape})"


def _casts(array: Array, dtype: np.dtype[np.generic]) -> bool:
    if np.can_cast(array.dtype, dtype, "safe"):
        return True
    # types that tokenizers give, and Core ML takes
    if array.dtype == np.int64 and dtype == np.int32:
        limits = np.iinfo(np.int32)
        return bool(((array >= limits.min) & (array <= limits.max)).all())
    return bool(array.dtype == np.float64 and dtype == np.float32)
