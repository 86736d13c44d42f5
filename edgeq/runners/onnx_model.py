"""ONNX models of text to a vector and of arrays to arrays."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgeq.artifact import TOKENIZER_FILE, Artifact, ValueInfo
from edgeq.errors import InvalidInput, Problem
from edgeq.runners import onnx
from edgeq.runners.base import Array, Model
from edgeq.runners.package import Package
from edgeq.runners.prepared import open_model
from edgeq.runners.text import TextEncoder


class OnnxModel(Model):
    """One artifact with its session and tokenizer. Safe to use from several threads."""

    kind = "a model of text or arrays"
    verbs = "embed() or run()"
    artifact: Artifact

    def __init__(self, package: Package, threads: int) -> None:
        model = open_model(package, threads)
        self.artifact, self.name = package.artifact, package.artifact.name
        self.runtime = f"onnxruntime {onnx.version()}"
        self.threads = threads
        self.prepared = model.prepared
        self._model = model
        self._inputs = [value.name for value in package.artifact.inputs]
        self._names = [value.name for value in package.artifact.outputs]
        self._package = package

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once on arrays keyed by input name; outputs are keyed by output name.

        Integers are widened and float64 is narrowed to float32 where the model wants it. Raises
        InvalidInput naming each input that is missing, unknown, or of a wrong type or shape.
        """
        try:
            # First as they are: a look at every array would be a measurable part of a short run.
            return self._outputs(self._model.session.run(self._names, feeds))
        except Exception:  # onnxruntime's exceptions share no base class
            return self._run(self._fitted(feeds))

    def _fitted(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """`feeds` as the model wants them; raises InvalidInput with all that cannot be fitted."""
        ready, problems = {}, []
        for value in self.artifact.inputs:
            if value.name not in feeds:
                problems.append(Problem(f"input {value.name!r}", "is missing", _wanted(value)))
                continue
            try:
                ready[value.name] = fit(np.asarray(feeds[value.name]), value)
            except InvalidInput as error:
                problems.extend(error.problems)
        known = [value.name for value in self.artifact.inputs]
        for name in feeds:
            if name not in known:
                remedy = f"the model's inputs are: {', '.join(known)}"
                problems.append(Problem(f"input {name!r}", "is not an input", remedy))
        if problems:
            raise InvalidInput(problems)
        return ready

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed each text; float32 of shape (len(texts), dimension), rows of unit length.

        Texts are run one at a time: activations are quantized over the whole tensor, so in a batch
        neighbours and padding would change an embedding. Longer texts are cut at
        `artifact.text.max_tokens`.
        """
        encoder = self._encoder
        if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
            found = type(texts).__name__
            raise InvalidInput(Problem("texts", f"is a {found}", "give a list of str: ['a text']"))
        result = np.empty((len(texts), self.artifact.dimension or 0), np.float32)
        name = self.artifact.outputs[0].name
        for index, text in enumerate(texts):
            feeds = encoder.feeds(text, self._inputs, f"texts[{index}]")
            result[index] = self._run(feeds)[name][0]
        return result

    def tokens(self, text: str) -> list[int]:
        """Token ids of `text`, special tokens included, cut at `artifact.text.max_tokens`."""
        return self._encoder.ids(text, "text")

    def tokenize(self, text: str) -> dict[str, npt.NDArray[np.int64]]:
        """The inputs for one text: int64 arrays of shape (1, tokens)."""
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

    def _outputs(self, values: Sequence[Array]) -> dict[str, Array]:
        return dict(zip(self._names, values, strict=True))

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return self._outputs(self._model.session.run(self._names, dict(feeds)))
        except Exception as error:  # onnxruntime's exceptions share no base class
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
            problem = Problem(
                self.artifact.name, f"onnxruntime stopped on {shapes}: {error}", "change the inputs"
            )
            raise InvalidInput(problem) from error


def fit(array: Array, value: ValueInfo) -> Array:
    """`array` as `value` wants it, cast where nothing is lost but float64's precision.

    Raises InvalidInput for another dtype or shape.
    """
    where = f"input {value.name!r}"
    wanted = np.dtype(value.dtype)
    narrowing = array.dtype == np.float64 and wanted == np.float32
    if not narrowing and not np.can_cast(array.dtype, wanted, "safe"):
        raise InvalidInput(Problem(where, f"has dtype {array.dtype}", _wanted(value)))
    fits = len(array.shape) == len(value.shape) and all(
        isinstance(size, str) or size == given
        for given, size in zip(array.shape, value.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(Problem(where, f"has shape {array.shape}", _wanted(value)))
    return np.ascontiguousarray(array, wanted).reshape(array.shape)


def _wanted(value: ValueInfo) -> str:
    shape = ", ".join(map(str, value.shape))
    return f"the model wants {value.dtype} of shape ({shape})"
