"""`edgeq run`: one call from a path and inputs to answers."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import edgeq
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import replacing, writable
from edgeq.core.tasks import task_of
from edgeq.formats.base import Classified, Detected, Entity, Model, Ranked
from edgeq.formats.chat import chat_tokens
from edgeq.formats.language import LanguageModel
from edgeq.recipe import array_sets


@dataclass(frozen=True)
class Answer:
    """Embeddings float32 `(texts, dimension)` and the seconds to compute them.

    runtime: its name and version. is_reference: whether it stands in for another runtime.
    """

    artifact: str
    runtime: str
    is_reference: bool
    texts: tuple[str, ...]
    embeddings: npt.NDArray[np.float32]
    seconds: float

    def similarity(self) -> npt.NDArray[np.float32]:
        """Cosine of every pair, float32 `(texts, texts)`."""
        norms = np.linalg.norm(self.embeddings, axis=1, keepdims=True)
        unit = self.embeddings / np.maximum(norms, np.finfo(np.float32).tiny)
        return np.asarray(unit @ unit.T, np.float32)

    def ranked(self) -> list[tuple[str, float]]:
        """Every text except the first with its cosine to the first, the nearest first."""
        likeness = self.similarity()[0]
        order = sorted(range(1, len(self.texts)), key=lambda index: -likeness[index])
        return [(self.texts[index], float(likeness[index])) for index in order]

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "artifact": self.artifact,
            "runtime": self.runtime,
            "texts": list(self.texts),
            "embeddings": self.embeddings.tolist(),
            "similarity": self.similarity().tolist(),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Labelled:
    """What a classifier says of texts or images, and the seconds that it took for all.

    noun: for one of them.
    """

    artifact: str
    runtime: str
    is_reference: bool
    texts: tuple[str, ...]
    answers: tuple[Classified, ...]
    seconds: float
    noun: str = "text"

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Tagged:
    """The labelled parts of texts, and the seconds that it took for all."""

    artifact: str
    runtime: str
    is_reference: bool
    texts: tuple[str, ...]
    answers: tuple[tuple[Entity, ...], ...]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Transcribed:
    """What is said in recordings, and the seconds that it took to write down all."""

    artifact: str
    runtime: str
    is_reference: bool
    recordings: tuple[str, ...]
    texts: tuple[str, ...]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Boxed:
    """What a detector finds in images, and the seconds that it took for all."""

    artifact: str
    runtime: str
    is_reference: bool
    images: tuple[str, ...]
    answers: tuple[tuple[Detected, ...], ...]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Reranked:
    """Texts in a reranker's order for a query, and the seconds that it took for all."""

    artifact: str
    runtime: str
    is_reference: bool
    query: str
    ranked: tuple[Ranked, ...]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


Answered: TypeAlias = Answer | Labelled | Tagged | Boxed | Transcribed | Reranked


def run_texts(path: Path, texts: Sequence[str]) -> Answered:
    """Embed, classify, tag or rank `texts`, or look at images or listen to recordings of these
    paths.

    Raises InvalidInput if there are none.
    """
    model = edgeq.load(path)
    if isinstance(model, LanguageModel):
        what = "is a language model, which continues a text"
        raise InvalidInput(Problem(str(path), what, f'run: edgeq run {path} --prompt "…"'))
    _require_texts(path, model, texts)
    start = time.perf_counter()
    about = (model.name, model.runtime, model.is_reference)
    task = task_of(model.artifact.task) if model.artifact is not None else None
    if task is not None and task.ranks:
        ranked = tuple(model.rank(texts[0], texts[1:]))
        return Reranked(*about, texts[0], ranked, time.perf_counter() - start)
    if task is not None and task.classifies:
        answers = tuple(model.classify(texts))
        seconds = time.perf_counter() - start
        return Labelled(*about, tuple(texts), answers, seconds, task.samples[:-1])
    if task is not None and task.tags:
        parts = tuple(model.tag(texts))
        return Tagged(*about, tuple(texts), parts, time.perf_counter() - start)
    if task is not None and task.transcribes:
        spoken = tuple(model.transcribe(texts))
        return Transcribed(*about, tuple(texts), spoken, time.perf_counter() - start)
    if task is not None and task.detects:
        boxes = tuple(map(tuple, model.detect(texts)))
        return Boxed(*about, tuple(texts), boxes, time.perf_counter() - start)
    embeddings = model.embed(list(texts))
    return Answer(
        artifact=model.name,
        runtime=model.runtime,
        is_reference=model.is_reference,
        texts=tuple(texts),
        embeddings=embeddings,
        seconds=time.perf_counter() - start,
    )


def _needs(model: Model) -> tuple[str, str]:
    """What the model runs on, and an example as arguments of `edgeq run`."""
    artifact = model.artifact
    if artifact is None or artifact.text is not None:
        return "sentences", '"a sentence"'
    if artifact.image is not None:
        return "images", "photo.jpg"
    if artifact.audio is not None:
        return "recordings", "speech.wav"
    return "arrays", "--inputs feeds.npz"


def _require_texts(path: Path, model: Model, texts: Sequence[str]) -> None:
    if not texts:
        needs, given = _needs(model)
        what = f"is {model.kind}: it needs {needs}"
        raise InvalidInput(Problem(str(path), what, f"run: edgeq run {path} {given}"))
    if model.artifact is not None and task_of(model.artifact.task).ranks and len(texts) < 2:
        what, given = "is a reranker: it needs a query and texts", '"a query" "a text" "another"'
        raise InvalidInput(Problem(str(path), what, f"run: edgeq run {path} {given}"))


@dataclass(frozen=True)
class Sampling:
    """How a prompt is continued; None for options not given."""

    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Written:
    """The text of a language model, and its timing.

    first_seconds: from the prompt, as tokens, to the first generated token, None if the text ended
    there. token_seconds: for each later token. runtime: its name and version. is_reference: whether
    it stands in for another runtime.
    """

    artifact: str
    runtime: str
    is_reference: bool
    prompt: str
    text: str
    prompt_tokens: int
    first_seconds: float | None
    token_seconds: tuple[float, ...]

    @property
    def tokens(self) -> int:
        """Number of generated tokens; the first comes from the pass over the prompt."""
        return len(self.token_seconds) + (self.first_seconds is not None)

    @property
    def prompt_tokens_per_second(self) -> float | None:
        """Prompt tokens per second, until the first token; None if none was written."""
        return self.prompt_tokens / self.first_seconds if self.first_seconds else None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second after the first; None if there are none."""
        return len(self.token_seconds) / sum(self.token_seconds) if self.token_seconds else None

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "artifact": self.artifact,
            "runtime": self.runtime,
            "prompt": self.prompt,
            "text": self.text,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "first_token_seconds": self.first_seconds,
            "prompt_tokens_per_second": self.prompt_tokens_per_second,
            "tokens_per_second": self.tokens_per_second,
        }


def write_text(
    path: Path, prompt: str, sampling: Sampling, show: Callable[[str], None], *, chat: bool = False
) -> Written:
    """Continue `prompt` with the language model at `path`, passing each piece to `show`.

    chat: treat the prompt as a message in the model's chat template.
    """
    model = edgeq.load(path)
    if not isinstance(model, LanguageModel):
        remedy = f"run: edgeq run {path} {_needs(model)[1]}"
        raise InvalidInput(Problem("--prompt", f"{model.name} is {model.kind}", remedy))
    if chat:
        ids = chat_tokens(model, [{"role": "user", "content": prompt}])
    else:
        ids = model.prompt_tokens(prompt)
    drawn = model.draw(
        ids,
        sampling.max_tokens,
        0.0 if sampling.temperature is None else sampling.temperature,
        0 if sampling.seed is None else sampling.seed,
    )
    times = [time.perf_counter()]
    pieces = []
    for piece in model.decoded(_timed(drawn, times)):
        show(piece)
        pieces.append(piece)
    return Written(
        artifact=model.name,
        runtime=model.runtime,
        is_reference=model.is_reference,
        prompt=prompt,
        text="".join(pieces),
        prompt_tokens=len(ids),
        first_seconds=times[1] - times[0] if len(times) > 1 else None,
        token_seconds=tuple(b - a for a, b in itertools.pairwise(times[1:])),
    )


def _timed(tokens: Iterator[int], times: list[float]) -> Iterator[int]:
    for token in tokens:
        times.append(time.perf_counter())
        yield token


def refuse_unused(
    texts: Sequence[str],
    inputs: Path | None,
    out: Path | None,
    prompt: str | None = None,
    sampling: Sampling = Sampling(),
    chat: bool = False,
) -> None:
    """Raise InvalidInput if one of the arguments would have no effect."""
    if prompt is None and chat:
        raise InvalidInput(Problem("--chat", "is for --prompt only", 'give --prompt "…" too'))
    if prompt is None and sampling != Sampling():
        what = "are for --prompt only"
        remedy = 'give --prompt "…" too'
        raise InvalidInput(Problem("--max-tokens, --temperature, --seed", what, remedy))
    if prompt is not None and (texts or inputs is not None):
        what = "cannot be combined with sentences or --inputs"
        raise InvalidInput(Problem("--prompt", what, "give one of the three"))
    if texts and inputs is not None:
        what = f"cannot be combined with sentences; {texts[0]!r} would not be read"
        raise InvalidInput(Problem("--inputs", what, "give sentences or --inputs"))
    if out is not None and inputs is None:
        what = "is written for --inputs only"
        raise InvalidInput(Problem("--out", what, "use --json to get embeddings"))


def run_arrays(path: Path, inputs: Path, out: Path | None) -> dict[str, npt.NDArray[Any]]:
    """Run every sample of `inputs` and stack each output along the first axis.

    With `out`, the outputs are written there as an .npz.
    """
    if out is not None:
        writable(out, "--out")
    model = edgeq.load(path)
    arrays = array_sets.read_arrays(inputs)
    if model.artifact is None:
        what = f"is {model.kind} without a record of its inputs"
        raise InvalidInput(Problem(str(path), what, f"use {model.verbs}"))
    ranks = {value.name: len(value.shape) for value in model.artifact.inputs}
    answers = [model.run(feed) for feed in array_sets.feeds(inputs, arrays, ranks)]
    try:
        outputs = {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}
    except ValueError:
        what = "the samples' outputs differ in shape, so one array cannot hold them"
        raise InvalidInput(Problem(str(inputs), what, "give samples of one size")) from None
    if out is not None:
        arrays_by_name: dict[str, Any] = outputs
        with replacing(out) as partial:
            np.savez(partial, **arrays_by_name)
    return outputs
