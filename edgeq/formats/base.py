"""The interface of every loaded model, whatever its file format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import Artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import TextOrPair
from edgeq.formats.audio import AnyAudio
from edgeq.formats.images import AnyImage

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Aggregation = Literal["none", "simple", "first", "average", "max"]
"""none: each token by itself. simple: neighbours of one label, unless one begins with B-. The
others give a word one label first: that of its first token, of its tokens' mean, or of the surest.
"""


@dataclass(frozen=True)
class Classified:
    """A classifier's answer to a text or an image.

    label: the likeliest. labels: all assigned labels: that one, or in a multi-label model each with
    a probability of at least one half. probabilities: of every label.
    """

    label: str
    labels: tuple[str, ...]
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Entity:
    """A labelled part of a text, from the character `start` to before `end`.

    score: its probability, the mean over its tokens or words.
    """

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Detected:
    """An object that a detector found.

    box: left, top, right and bottom in pixels of the image, turned as its metadata say.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Ranked:
    """A text that a reranker scored. index: its place in the list that was given.

    score: the model's own output: higher is better, and any number.
    """

    index: int
    text: str
    score: float


class Model:
    """A model that is ready to run, as `edgeq.load` returns it.

    A model has the methods of its task; any other raises InvalidInput and names those it has.

    Attributes: `artifact`, its record (None for a bare `.gguf`); `name`, of the artifact or file;
    `threads`, the number of threads of one run; `runtime`, the name and version of what executes
    it; `system`, the instruction sets that the runtime was built for ("" if it chooses kernels at
    run time); `prepared`, whether weights are mapped from a copy packed for this CPU;
    `is_reference`, whether a slow, exact executor stands in for the device's runtime; `parts`, the
    models of a bundle that has several, by name.
    """

    kind = "model"
    verbs = ""
    parts: Mapping[str, Model] = MappingProxyType({})
    artifact: Artifact | None
    name: str
    threads: int
    runtime: str
    system: str = ""
    prepared: bool = False
    is_reference: bool = False

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once: arrays by input name in, arrays by output name out.

        Raises InvalidInput for a name, dtype or shape that the model does not take.
        """
        raise self._unfit("run")

    def tokenize(self, text: TextOrPair) -> dict[str, Array]:
        """Turn a text, or (query, text), into inputs of `run`: integers of shape (1, tokens)."""
        raise self._unfit("tokenize")

    def embed(
        self, texts: Sequence[str], *, prompt: str | None = None, prompt_name: str | None = None
    ) -> Floats:
        """Embed each text: float32 of shape (len(texts), dimension).

        `prompt` is put in front of each text; "" means none. `prompt_name` instead selects one of
        the model's own, listed in `artifact.text.prompts`. By default, the model's default prompt.
        """
        raise self._unfit("embed")

    def classify(self, samples: Sequence[str] | Sequence[AnyImage]) -> list[Classified]:
        """Classify each text or, by a classifier of images, each image."""
        raise self._unfit("classify")

    def tag(
        self, texts: Sequence[str], *, aggregation: Aggregation = "simple"
    ) -> list[tuple[Entity, ...]]:
        """Find the labelled parts of each text.

        aggregation: how tokens become parts, by the names of transformers' pipeline: "none",
        "simple", "first", "average" or "max".
        """
        raise self._unfit("tag")

    def detect(self, images: Sequence[AnyImage]) -> list[list[Detected]]:
        """Find objects in each image; the highest score first."""
        raise self._unfit("detect")

    def transcribe(self, recordings: Sequence[AnyAudio]) -> list[str]:
        """Write down what is said in each recording."""
        raise self._unfit("transcribe")

    def rank(self, query: str, texts: Sequence[str]) -> list[Ranked]:
        """Score each text for the query; the best first."""
        raise self._unfit("rank")

    def preprocess(self, image: AnyImage) -> dict[str, Array]:
        """Turn one image into the input of `run`."""
        raise self._unfit("preprocess")

    def tokens(self, text: str) -> list[int]:
        """Tokenize `text`; the ids include special tokens."""
        raise self._unfit("tokens")

    def logits(self, token_ids: Sequence[int] | Array) -> Floats:
        """Score the next token after every position: float32 (len(token_ids), vocabulary)."""
        raise self._unfit("logits")

    def generate(
        self,
        prompt: str,
        max_tokens: int | None = None,
        *,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Continue `prompt`; yields text piece by piece."""
        raise self._unfit("generate")

    def facts(self) -> dict[str, Any]:
        """Return facts that only some runtimes report about an open model, as plain JSON.

        Core ML: `compiled_load_seconds` and `placement`, as `edgeq.measure.records` has them.
        """
        return {}

    def _unfit(self, verb: str) -> InvalidInput:
        return InvalidInput(Problem(self.name, f"is {self.kind}: no {verb}()", f"use {self.verbs}"))
