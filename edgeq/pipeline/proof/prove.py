"""Compares a float graph with the original on samples, and locates the first difference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import MODEL_FILE, ImportProof
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.core.terms import TextOrPair
from edgeq.core.threads import default_threads
from edgeq.formats.onnx.decoder import BoundSession
from edgeq.formats.text import TextEncoder
from edgeq.models.huggingface import ModelDirectory, read_directory, with_dimension
from edgeq.models.onnx_session import Session, open_session, return_freed_memory
from edgeq.models.original.encoder import OriginalEncoder, open_encoder
from edgeq.pipeline.proof.decoder_original import DecoderOriginal, open_original
from edgeq.pipeline.proof.first_difference import FirstDifference
from edgeq.pipeline.proof.request import ProofRequest, TextSample
from edgeq.pipeline.proof.tokens import part, require_same_tokens

Array = npt.NDArray[np.float32]
TOLERANCE = 1e-5
"""Relative, of a sample's output: what float32 sums in another order come to in the deepest model
that was tried. A wrong reading is off by more than a thousand times that."""
_WEIGHTS_AS_THEY_ARE = {"session.disable_prepacking": "1"}  # for a few tokens: no second copy
_NOISE = 10
"""Times what the original differs from itself, where its own sums are taken in another order."""


def prove(request: ProofRequest) -> ImportProof:
    """Run the original and the float graph on the samples.

    Raises InvalidInput if they differ beyond float rounding, naming the first weight or step.
    """
    directory = read_directory(request.directory, str(request.directory))
    directory = with_dimension(directory, request.dimension)
    if request.windows:
        return _prove_decoder(directory, request)
    return _prove_encoder(directory, request)


def relative(found: Array, wanted: Array, least: float = 0.0) -> float:
    """The largest ‖a−b‖/‖b‖ over rows; infinity for NaN or different shapes.

    least: the size that a smaller row counts as.
    """
    if found.shape != wanted.shape:
        return float("inf")
    a, b = (x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (found, wanted))
    least = max(least, float(np.finfo(np.float32).tiny))
    scale = np.maximum(np.linalg.norm(b, axis=1), least)
    worst = float((np.linalg.norm(a - b, axis=1) / scale).max(initial=0.0))
    return worst if np.isfinite(worst) else float("inf")


def _usual(answers: Sequence[Array]) -> float:
    """The usual size of an answer: a score near 0 is a difference of large numbers."""
    return float(np.median([np.linalg.norm(each, axis=-1).mean() for each in answers] or [0.0]))


def _prove_encoder(directory: ModelDirectory, request: ProofRequest) -> ImportProof:
    original = open_encoder(directory, task_of(request.task))
    require_same_tokens(directory, original.tokenizer)
    encoder = TextEncoder(directory.tokenizer_json(), directory.max_tokens)
    session = open_session(request.graph / MODEL_FILE, threads=default_threads())
    names = [value.name for value in session.get_inputs()]
    default = directory.head.default_text if task_of(request.task).has_sentence_head else ""
    wanted = [original.answer(text) for text in request.texts]
    least = _usual(wanted)
    lengths, worst = [], 0.0
    for text, answer in zip(request.texts, wanted, strict=True):
        feed = encoder.feeds(default + text if isinstance(text, str) else text, names)
        difference = relative(session.run(None, feed)[0], answer, least)
        if not difference <= TOLERANCE:
            raise _refusal(directory, difference, _tokens_or_part(original, request, feed, text))
        lengths.append(feed["input_ids"].shape[1])
        worst = max(worst, difference)
    return ImportProof(
        reference=original.runtime,
        compared=f"answers to {len(lengths)} texts of {min(lengths)} to {max(lengths)} tokens",
        difference=worst,
        tolerance=TOLERANCE,
    )


def _tokens_or_part(
    original: OriginalEncoder,
    request: ProofRequest,
    feed: dict[str, npt.NDArray[np.int64]],
    text: TextOrPair,
) -> str:
    ids, wanted = feed["input_ids"][0].tolist(), original.ids(text)
    if ids != wanted:
        return part(ids, wanted, text)
    return FirstDifference(original.network, request.graph).of(feed)


def _prove_decoder(directory: ModelDirectory, request: ProofRequest) -> ImportProof:
    """One model after the other, so that never two are in memory."""
    runtime, allowed, answers = _answers_of_original(directory, request)
    return_freed_memory()
    session = open_session(
        request.graph / MODEL_FILE, threads=default_threads(), settings=_WEIGHTS_AS_THEY_ARE
    )
    worst = 0.0
    for sample, (wanted, noise) in zip(request.windows, answers, strict=True):
        allowed = max(allowed, _NOISE * noise)
        difference = relative(_graph_logits(session, sample, wanted.shape[1]), wanted)
        if not difference <= allowed:
            original, feed = _open(directory, request), _feed(directory, sample)
            raise _refusal(directory, difference, original.first_difference(request.graph, feed))
        worst = max(worst, difference)
    steps = [len(sample.ids) - sample.prefill for sample in request.windows]
    prefills = " and ".join(str(sample.prefill) for sample in request.windows)
    return ImportProof(
        reference=runtime,
        compared=f"logits of a prefill of {prefills} tokens, then {max(steps)} token by token",
        difference=worst,
        tolerance=allowed,
    )


def _open(directory: ModelDirectory, request: ProofRequest) -> DecoderOriginal:
    longest = max(len(sample.ids) for sample in request.windows)
    return open_original(directory, request.gguf, longest)


def _answers_of_original(
    directory: ModelDirectory, request: ProofRequest
) -> tuple[str, float, list[tuple[Array, float]]]:
    """Its runtime, the difference that is allowed, and `_original_logits` of every sample."""
    original = _open(directory, request)
    require_same_tokens(directory, original.tokenizer())
    answers = [_original_logits(original, sample) for sample in request.windows]
    return original.runtime, original.tolerance or TOLERANCE, answers


def _original_logits(original: DecoderOriginal, sample: TextSample) -> tuple[Array, float]:
    """Logits of every position, and their difference from those of the text in one piece."""
    original.clear()
    parts = [original.append(sample.ids[: sample.prefill])]
    parts += [original.append([token]) for token in sample.ids[sample.prefill :]]
    original.clear()
    whole = original.append(sample.ids)
    return np.concatenate(parts), relative(np.concatenate(parts), whole)


def _graph_logits(session: Session, sample: TextSample, vocabulary: int) -> Array:
    logits = np.empty((len(sample.ids), vocabulary), np.float32)
    bound = BoundSession(session, len(sample.ids))
    ids = np.array(sample.ids, np.int32)
    bound.run(ids[: sample.prefill], 0, sample.prefill, logits[: sample.prefill])
    for at in range(sample.prefill, len(ids)):
        bound.run(ids[at : at + 1], at, at + 1, logits[at : at + 1])
    return logits


def _feed(directory: ModelDirectory, sample: TextSample) -> dict[str, npt.NDArray[np.generic]]:
    from edgeq.models.architectures import decoder_of
    from edgeq.models.graphs.decoder_onnx import decoder_feeds

    decoder = decoder_of(directory.config, str(directory.path))
    (feed,) = decoder_feeds(decoder, [sample.ids[: sample.prefill]])
    return dict(feed)


def _refusal(directory: ModelDirectory, difference: float, part: str) -> InvalidInput:
    what = f"edgeq's reading of it is not the model: outputs differ by {difference:.1e}; {part}"
    remedy = (
        "nothing was built from it; export it to ONNX yourself and name the .onnx file, "
        "or report it with this line"
    )
    return InvalidInput(Problem(str(directory.path), what, remedy))
