"""Requests to the processes that prove a build."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgeq.core.artifact import Frozen
from edgeq.core.audio import AudioSettings
from edgeq.core.tasks import SENTENCE_EMBEDDING
from edgeq.core.terms import Continuation, TextOrPair
from edgeq.places.process import Request


class TextSample(Frozen):
    """Token ids of a text: the first `prefill` are fed at once, the rest one by one."""

    ids: tuple[int, ...]
    prefill: int


class ProofRequest(Frozen):
    """A model directory, its float graph, and samples: texts of an encoder, tokens of a decoder.

    gguf: the file that the directory was unpacked from, which llama.cpp runs as the original.
    dimension: of an embedding, if it is not all of it.
    """

    work: Literal["proof"] = "proof"
    directory: Path
    gguf: Path | None = None
    graph: Path
    task: str = SENTENCE_EMBEDDING.name
    dimension: int | None = None
    texts: tuple[TextOrPair, ...] = ()
    windows: tuple[TextSample, ...] = ()


class AnswersRequest(Frozen):
    """Write answers of the model in `directory` to texts, or to windows of token ids, to `outputs`.

    outputs: a directory in the layout that `edgeq.measure.reference` reads. gguf: see
    `ProofRequest`, as for `dimension`. asked: of the choices of questions, whose log-likelihoods
    are written, too.
    """

    work: Literal["reference"] = "reference"
    directory: Path
    gguf: Path | None = None
    outputs: Path
    task: str = SENTENCE_EMBEDDING.name
    dimension: int | None = None
    texts: tuple[TextOrPair, ...] = ()
    windows: tuple[tuple[int, ...], ...] = ()
    asked: tuple[tuple[Continuation, ...], ...] = ()


class SpeechRequest(Frozen):
    """Write the tokens that the speech recogniser in `directory` makes of recordings to `outputs`.

    directory: as optimum exports it. arrays: the encoder's inputs, in an .npz. prompt: the tokens
    that the recipe begins a text with. outputs: see `AnswersRequest`.
    """

    work: Literal["speech"] = "speech"
    directory: Path
    arrays: Path
    outputs: Path
    prompt: tuple[int, ...]
    audio: AudioSettings


class OpenRequest(Frozen):
    """Artifacts to open in turn, and the input to run each on."""

    work: Literal["open"] = "open"
    requests: tuple[Request, ...]
