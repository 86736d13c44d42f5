"""The measuring passes of models from samples to outputs: encoders, arrays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from edgeq.core.artifact import Artifact
from edgeq.core.known_settings import STATE_KEY
from edgeq.formats.base import Model
from edgeq.formats.loaded import load
from edgeq.formats.timed_feed import (
    Feed,
    made_up,
    made_up_words,
    sample_words,
    sequence,
    sequence_words,
)
from edgeq.measure import arrays, latency, memory
from edgeq.measure.replies import MemoryReply, Reply, RunTimesReply, about
from edgeq.measure.sequential import Limit
from edgeq.places.process import Request
from edgeq.recipe import array_sets
from edgeq.recipe.sequences import joined, sequences

_QUANTILES = {"p50": 0.5, "p90": 0.9}


def time_sample(request: Request) -> RunTimesReply:
    """The latency pass: the same sample, repeatedly."""
    start = time.perf_counter()
    model = _load(request)
    load_seconds = time.perf_counter() - start
    feed, inputs = fixed_feed(model, request)
    limits = [
        Limit(q, request.limits[key]) for key, q in _QUANTILES.items() if key in request.limits
    ]
    timing = latency.time_runs(lambda: model.run(feed), request.effort, limits)
    return RunTimesReply(
        **about(model),
        inputs=inputs,
        load_seconds=load_seconds,
        seconds=timing.seconds,
        runs=timing.runs,
        looks=timing.looks,
        **timing.disturbed,
        **model.facts(),
    )


def watch_sample(request: Request) -> MemoryReply:
    """The memory pass: loading, and the same sample several times."""
    baseline = memory.read()
    with memory.Peak() as peak:
        model = _load(request)
        loaded = memory.read()
        feed, inputs = fixed_feed(model, request)
        runs = memory.run_until_flat(lambda: model.run(feed), peak)
        ran = memory.read()
    # Last, to separate the model's memory from its tokenizer's.
    with memory.Peak() as later:
        if _record(model).text is not None:
            model.tokens(request.text)
        with_tokenizer = memory.read()
    return MemoryReply(
        **about(model),
        **memory.figures(baseline, loaded, ran, with_tokenizer, peak, later),
        runs=runs,
        inputs=inputs,
    )


def answer_samples(request: Request) -> Reply:
    """The quality pass: write every output of every evaluation sample to a file."""
    model = _load(request)
    assert request.outputs is not None
    count = arrays.write_arrays(request.outputs, _outputs(model, request))
    samples = count // len(_record(model).outputs)
    noun = "evaluation samples" if request.texts == () else "texts, one at a time"
    return Reply(**about(model), inputs=f"{samples} {noun}")


def _outputs(model: Model, request: Request) -> Iterator[npt.NDArray[Any]]:
    """Every output of every sample, in the artifact's order of outputs.

    Of a model with a state, the steps of a sample along a first axis; one step where the data hold
    the state.
    """
    record = _record(model)
    state = record.settings.get(STATE_KEY)
    if state and request.arrays is not None:
        held = array_sets.read_arrays(request.arrays, request.samples)
        if not set(state) <= set(held):
            names = [value.name for value in record.outputs]
            for steps in sequences(request.arrays, held, record.inputs, state):
                yield from joined(steps, model.run, state, names)
            return
    for feed in _evaluation_feeds(model, request):
        outputs = model.run(feed)
        for value in _record(model).outputs:
            yield outputs[value.name]


def _evaluation_feeds(model: Model, request: Request) -> Iterator[Feed]:
    if request.arrays is None:
        settings = _record(model).text
        assert settings is not None  # only a model of texts is asked about some
        for text in request.texts:
            yield dict(model.tokenize(settings.after_prompt(text)))
        return
    ranks = {value.name: len(value.shape) for value in _record(model).inputs}
    samples = array_sets.read_arrays(request.arrays, request.samples)
    yield from array_sets.feeds(request.arrays, samples, ranks)


def fixed_feed(model: Model, request: Request) -> tuple[Feed, str]:
    """The input of every run of the latency and memory passes, and its description."""
    text = _record(model).text
    if request.feed is not None:
        stored = arrays.read_arrays(request.feed)
        sample = {value.name: next(stored) for value in _record(model).inputs}
        if text is not None:
            return sample, sequence_words(sample)
        return sample, sample_words(sample)
    if text is not None:
        feed = sequence(model.tokenize(request.text), text.max_tokens)
        return feed, sequence_words(feed)
    feed = made_up(_record(model).inputs)
    return feed, made_up_words(feed)


def _load(request: Request) -> Model:
    return load(request.artifact, threads=request.threads, compute_units=request.compute_units)


def _record(model: Model) -> Artifact:
    assert model.artifact is not None  # a request names an artifact, never a bare file
    return model.artifact
