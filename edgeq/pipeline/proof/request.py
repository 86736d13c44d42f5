"""What the processes that prove a build are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgeq.core.artifact import Frozen
from edgeq.core.tasks import SENTENCE_EMBEDDING
from edgeq.places.process import Request


class TextSample(Frozen):
    """Token ids of a text: the first `prefill` go in at once, the rest one by one."""

    ids: tuple[int, ...]
    prefill: int


class ProofRequest(Frozen):
    """A model directory, its float graph, and samples: texts of an encoder, tokens of a decoder."""

    work: Literal["proof"] = "proof"
    directory: Path
    graph: Path
    task: str = SENTENCE_EMBEDDING.name
    texts: tuple[str, ...] = ()
    windows: tuple[TextSample, ...] = ()


class AnswersRequest(Frozen):
    """Answers of the model in `directory` to texts, or to windows of token ids, into `outputs`.

    outputs: a directory, filled as `edgeq.measure.reference` reads it.
    """

    work: Literal["reference"] = "reference"
    directory: Path
    outputs: Path
    task: str = SENTENCE_EMBEDDING.name
    texts: tuple[str, ...] = ()
    windows: tuple[tuple[int, ...], ...] = ()


class OpenRequest(Frozen):
    """Artifacts to open one after the other, and what to run each on."""

    work: Literal["open"] = "open"
    requests: tuple[Request, ...]
