"""Records the original's answers to evaluation data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgeq.core.tasks import task_of
from edgeq.measure import arrays
from edgeq.measure.choices import likelihoods
from edgeq.measure.divergence import noisy_windows
from edgeq.measure.predictions import following
from edgeq.measure.reference import ANSWERS_FILE, CHOICES_FILE, Recorded, write_record
from edgeq.measure.scoring import score
from edgeq.models.huggingface import read_directory, with_dimension
from edgeq.models.original.decoder import Floats
from edgeq.models.original.encoder import open_encoder
from edgeq.pipeline.proof.decoder_original import DecoderOriginal, open_original
from edgeq.pipeline.proof.request import AnswersRequest


def record_answers(request: AnswersRequest) -> Recorded:
    """Run the original on every text or window, and write its answers."""
    recorded = _of_windows(request) if request.windows else _of_texts(request)
    write_record(request.outputs, recorded)
    return recorded


def _of_texts(request: AnswersRequest) -> Recorded:
    directory = read_directory(request.directory, str(request.directory))
    directory = with_dimension(directory, request.dimension)
    original = open_encoder(directory, task_of(request.task))
    vectors = (original.answer(text) for text in request.texts)
    arrays.write_arrays(request.outputs / ANSWERS_FILE, vectors)
    return Recorded(runtime=original.runtime)


def _of_windows(request: AnswersRequest) -> Recorded:
    directory = read_directory(request.directory, str(request.directory))
    asked = (ids for question in request.asked for ids, _ in question)
    longest = max(map(len, (*request.windows, *asked)))
    original = open_original(directory, request.gguf, longest)
    noisy = noisy_windows(len(request.windows))
    noise: dict[int, float] = {}

    def answers() -> Iterator[Floats]:
        for index, window in enumerate(request.windows):
            original.clear()
            whole = original.append(window, last=len(window) - len(window) // 2)[:-1]
            if index in noisy:
                noise[index] = _noise(original, window, whole)
            yield np.array(window, np.int32)
            yield whole

    def logits(ids: Sequence[int]) -> Floats:
        original.clear()
        return original.append(ids)

    arrays.write_arrays(request.outputs / ANSWERS_FILE, answers())
    if request.asked:
        arrays.write_arrays(request.outputs / CHOICES_FILE, likelihoods(logits, request.asked))
    return Recorded(runtime=original.runtime, vocabulary=original.vocabulary, noise=noise)


def _noise(original: DecoderOriginal, window: tuple[int, ...], whole: Floats) -> float:
    original.clear()
    rows = (original.append([token]) for token in window)
    pieces = np.concatenate([row for at, row in enumerate(rows) if at >= len(window) // 2])
    return float(score(whole, pieces[:-1], following(window)).kl.mean())
