"""The measuring passes of language models."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeq.core.artifact import Artifact
from edgeq.formats.language import Ids, LanguageModel
from edgeq.formats.loaded import load
from edgeq.formats.openers import opener
from edgeq.measure import arrays, choices, divergence, generation, memory
from edgeq.measure.predictions import LivePredictions, Predictions
from edgeq.measure.records import Moment
from edgeq.measure.reference import RecordedPredictions, read_recorded, same_windows
from edgeq.measure.replies import DivergenceReply, MemoryReply, Reply, TextTimesReply, about
from edgeq.measure.same_tokens import same_tokens
from edgeq.measure.sustained import sustain
from edgeq.places.process import Request
from edgeq.recipe.budgets import Workload
from edgeq.recipe.data_sets import read_corpus
from edgeq.recipe.windows import split


def time_texts(request: Request) -> TextTimesReply:
    """The latency pass: a prompt and generated tokens, repeatedly; then without a pause."""
    work = _workload(request)
    start = time.perf_counter()
    model = _load(request.artifact, request, work.context)
    load_seconds = time.perf_counter() - start
    ids = np.array(model.tokens(request.text), np.int32)
    prompt = np.resize(ids, work.prompt)
    wanted = generation.targets(request.limits, work.prompt, work.generate)
    timing = generation.time_texts(model, prompt, work.generate, request.effort, wanted)
    moments: list[Moment] = []
    if request.sustain_seconds is not None:
        moments = sustain(model, prompt, work.generate, request.sustain_seconds)
    return TextTimesReply(
        **about(model),
        inputs=f"prompt {work.prompt}, generate {work.generate}, {_context_words(model)}",
        load_seconds=load_seconds,
        first=timing.first,
        tokens=timing.tokens,
        looks=timing.looks,
        text_looks=timing.text_looks,
        moments=tuple(moments),
        **timing.disturbed,
        **model.facts(),
    )


def watch_text(request: Request) -> MemoryReply:
    """The memory pass: loading, and one text that fills the context.

    Any tokens will do: with a text's own, the tokenizer's memory would mix with the model's.
    """
    work = _workload(request)
    baseline = memory.read()
    with memory.Peak() as peak:
        model = _load(request.artifact, request, work.context)
        loaded = memory.read()
        ids: Ids = np.arange(work.context, dtype=np.int32) % model.vocabulary
        steps = min(work.generate, work.context - 1)
        model.prefill(ids[: work.context - steps])
        for token in ids[work.context - steps :]:
            model.step(int(token))
        ran = memory.read()
    with memory.Peak() as later:
        model.tokens(request.text)
        with_tokenizer = memory.read()
    return MemoryReply(
        **about(model),
        **memory.figures(baseline, loaded, ran, with_tokenizer, peak, later),
        runs=work.context,
        context=work.context,
        cache_bytes=model.cache_bytes(work.context),
        inputs=f"prompt {work.context - steps}, generate {steps}, {_context_words(model)}",
    )


def judge_text(request: Request) -> Reply:
    """The quality pass: the answers to `texts` or questions if there are any, else a comparison."""
    if request.asked:
        return answer_questions(request)
    if request.ids:
        return answer_ids(request)
    return answer_texts(request) if request.texts else compare_text(request)


def answer_texts(request: Request) -> Reply:
    """Write logits of every position of every text, float32 (tokens, vocabulary), to a file."""
    model = _load(request.artifact, request, _workload(request).context)
    assert request.outputs is not None
    texts = (text for text in request.texts if isinstance(text, str))
    answers = (model.logits(model.tokens(text)) for text in texts)
    count = arrays.write_arrays(request.outputs, answers)
    return Reply(**about(model), inputs=f"{count} texts, {_context_words(model)}")


def answer_ids(request: Request) -> Reply:
    """Write the logits of the last tokens of `ids`, float32 (tokens, vocabulary), to a file."""
    model = _load(request.artifact, request, len(request.ids))
    assert request.outputs is not None
    pieces = {"piece": request.piece} if request.piece else {}
    logits = model.last_logits(request.ids, request.last, **pieces)
    arrays.write_arrays(request.outputs, [logits])
    return Reply(**about(model), inputs=f"{len(request.ids)} tokens, {_context_words(model)}")


def answer_questions(request: Request) -> Reply:
    """Write the log-likelihood of each choice of every question, float64 (choices,), to a file."""
    model = _load(request.artifact, request, _workload(request).context)
    assert request.outputs is not None
    answers = choices.likelihoods(model.logits, request.asked)
    count = arrays.write_arrays(request.outputs, answers)
    return Reply(**about(model), inputs=f"{count} questions, {_context_words(model)}")


def compare_text(request: Request) -> DivergenceReply:
    """The quality pass: divergence of predictions from those of `reference`, recorded or run here.

    On windows of the workload.
    """
    model = load_text_model(request)
    found, inputs = compared(request, model, lambda live, _: LivePredictions(live))
    return DivergenceReply(**about(model), divergence=found, inputs=inputs)


def compared(
    request: Request,
    model: LanguageModel,
    predict: Callable[[LanguageModel, Path], LivePredictions],
) -> tuple[divergence.Divergence, str]:
    """The divergence that `compare_text` replies, and its inputs in words.

    model: the artifact, opened. predict: the predictions of an open model, by its path.
    """
    size = _workload(request).window
    corpus, reference = request.corpus, request.reference
    assert corpus is not None and reference is not None
    recorded = read_recorded(reference)
    first: Predictions
    if recorded is None:
        live = _load(reference, request, size)
        paths = (reference, request.artifact)
        begin, ids = same_tokens((live, model), paths, read_corpus(corpus))
        windows = split(ids, size, begin, str(corpus), request.samples)
        first = predict(live, reference)
    else:
        every = corpus_windows(model.tokens, corpus, request.samples, size)
        windows = same_windows(every, reference, model.name)
        first = RecordedPredictions(reference, recorded)
    found = divergence.measure(first, predict(model, request.artifact), windows)
    return found, f"{len(windows)} windows of {size} tokens, {_context_words(model)}"


def check_corpus(
    directory: Path, artifact: Artifact, corpus: Path, samples: int | None, size: int
) -> None:
    """Raise InvalidInput if the text is too short for the windows of `compare_text`.

    Uses the tokenizer of the artifact in `directory`, whose weights stay on disk.
    """
    corpus_windows(tokenizer_of(directory, artifact), corpus, samples, size)


def corpus_windows(
    tokens: Callable[[str, bool], list[int]], corpus: Path, samples: int | None, size: int
) -> list[list[int]]:
    """The windows of a text file for measuring quality, tokenized by `tokens(text, special)`.

    Raises InvalidInput for a text that has too few.
    """
    first = choices.first_token(tokens)
    around = [*first, *tokens(read_corpus(corpus), False)]
    return split(around, size, next(iter(first), None), str(corpus), samples)


def tokenizer_of(directory: Path, artifact: Artifact) -> Callable[[str, bool], list[int]]:
    """A function from text, and whether special tokens are wanted, to token ids."""
    return opener(artifact.format).tokenize_with(directory)


def load_text_model(request: Request) -> LanguageModel:
    """The artifact, opened for windows of the workload."""
    return _load(request.artifact, request, _workload(request).window)


def _workload(request: Request) -> Workload:
    assert request.workload is not None  # present in every request for a language model
    return request.workload


def _load(path: Path, request: Request, context: int) -> LanguageModel:
    model = load(
        path, threads=request.threads, context=context, compute_units=request.compute_units
    )
    assert isinstance(model, LanguageModel)  # guaranteed by its task
    return model


def _context_words(model: LanguageModel) -> str:
    return f"context {model.context} in {model.cache_type}"
