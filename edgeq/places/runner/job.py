"""What edgeq-runner is given for a pass: arrays, a table of settings, and what they are in words.

Texts become token ids here: a tokenizer is the app's own, and the runner has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.artifact import (
    ADAPTER_FILE,
    GGUF_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    Artifact,
)
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.known_settings import SESSION_BY_CPU, SESSION_BY_CPU_KEY, SESSION_KEY, STATE_KEY
from edgeq.core.tasks import task_of
from edgeq.formats import timed_feed
from edgeq.formats.package import Package
from edgeq.formats.text import TextEncoder
from edgeq.formats.timed_feed import Feed
from edgeq.models.onnx_session import PRODUCT_MODEL
from edgeq.places.process import Request
from edgeq.recipe import array_sets

_QUANTILES = {"p50": 0.5, "p90": 0.9}
MEMORY_RUNS = 32


@dataclass(frozen=True)
class Job:
    """Lines of the runner's request, and files that they name.

    base: what every pass of the artifact has. lines: what this one has in addition. facts: fields
    of the reply that are known here.
    """

    base: tuple[str, ...]
    lines: tuple[str, ...]
    files: tuple[Path, ...]
    facts: dict[str, Any]


def require_runnable(package: Package, where: str) -> None:
    """Raise InvalidInput for an artifact that the runner cannot run."""
    artifact = package.artifact
    generates = task_of(artifact.task).generates
    what = ""
    if MODEL_FILE not in artifact.files and not (generates and GGUF_FILE in artifact.files):
        what = "is neither an ONNX model nor a language model in one GGUF file"
    elif artifact.settings.get(STATE_KEY):
        what = "has a state, and edgeq-runner runs single steps"
    elif ADAPTER_FILE in artifact.files:
        what = "has an adapter, and edgeq-runner opens none"
    if what:
        remedy = f"measure it with Python there: {where}?python=/path/there"
        raise InvalidInput(Problem(artifact.name, what, remedy))


def session_lines(artifact: Artifact) -> tuple[str, ...]:
    """Inputs, outputs and session entries, as `edgeq.formats.onnx.prepacked` takes them."""
    own = artifact.settings.get(SESSION_KEY)
    by_cpu = artifact.settings.get(SESSION_BY_CPU_KEY, SESSION_BY_CPU)
    entries = {"any": own} if own is not None else by_cpu
    lines = (
        *(f"input {value.name}" for value in artifact.inputs),
        *(f"output {v.name}" for v in artifact.outputs if not v.name.startswith("present.")),
        *(
            f"entry {kind} {name} {value}"
            for kind, settings in entries.items()
            for name, value in settings.items()
        ),
    )
    if any("\n" in line for line in lines):  # the rest would be lines of their own
        what = "a name or a session setting has a line break"
        raise InvalidInput(Problem(artifact.name, what, "rename it"))
    return lines


def make_job(request: Request, package: Package, folder: Path) -> Job:
    """A pass of an ONNX model; its arrays are written to `folder`."""
    feeds, probe = folder / "feeds.npy", folder / "probe.onnx"
    probe.write_bytes(PRODUCT_MODEL)
    lines: tuple[str, ...] = ()
    if request.work == "quality":
        samples = write_feeds(feeds, package.artifact, _evaluation(request, package))
        noun = "evaluation samples" if request.texts == () else "texts, one at a time"
        words = f"{samples} {noun}"
    else:
        feed, words = _timed(request, package)
        write_feeds(feeds, package.artifact, [feed])
        lines = (f"runs {MEMORY_RUNS}",)
    if request.work == "latency":
        limits = (
            f"limit {q} {request.limits[key]!r}"
            for key, q in _QUANTILES.items()
            if key in request.limits
        )
        lines = (f"effort {request.effort}", *limits)
    return Job(
        base=(
            *(f"probe {probe.name}", f"feeds {feeds.name}"),
            *session_lines(package.artifact),
        ),
        lines=lines,
        files=(feeds, probe),
        facts={"inputs": words},
    )


def _timed(request: Request, package: Package) -> tuple[Feed, str]:
    artifact = package.artifact
    if request.feed is not None:
        with request.feed.open("rb") as file:
            feed = {v.name: np.load(file, allow_pickle=False) for v in artifact.inputs}
        if artifact.text is not None:
            return feed, timed_feed.sequence_words(feed)
        return feed, timed_feed.sample_words(feed)
    if artifact.text is None:
        feed = timed_feed.made_up(artifact.inputs)
        return feed, timed_feed.made_up_words(feed)
    tokens = _encoder(package).feeds(request.text, _names(artifact))
    feed = timed_feed.sequence(tokens, artifact.text.max_tokens)
    return feed, timed_feed.sequence_words(feed)


def _evaluation(request: Request, package: Package) -> Iterator[Feed]:
    artifact = package.artifact
    if request.arrays is None:
        encoder = _encoder(package)
        for text in request.texts:
            yield dict(encoder.feeds(text, _names(artifact)))
        return
    ranks = {value.name: len(value.shape) for value in artifact.inputs}
    samples = array_sets.read_arrays(request.arrays, request.samples)
    yield from array_sets.feeds(request.arrays, samples, ranks)


def _encoder(package: Package) -> TextEncoder:
    text = package.artifact.text
    assert text is not None  # of an artifact without one, nobody gives texts
    return TextEncoder(package.read(TOKENIZER_FILE), text.max_tokens)


def _names(artifact: Artifact) -> list[str]:
    return [value.name for value in artifact.inputs]


def write_feeds(path: Path, artifact: Artifact, feeds: Iterable[Feed]) -> int:
    """Arrays of every sample in the order of the inputs; returns the number of samples."""
    count = 0
    with path.open("wb") as file:
        for feed in feeds:
            for value in artifact.inputs:
                array: Any = np.ascontiguousarray(feed[value.name], value.dtype)
                np.save(file, array.reshape(feed[value.name].shape), allow_pickle=False)
            count += 1
    return count
