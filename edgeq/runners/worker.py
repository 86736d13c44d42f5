"""The fresh process of one measuring pass: `python -m edgeq.runners.worker`.

One JSON `Request` on standard input, one JSON reply on standard output. Whatever else a library
prints goes to standard error. Exit status 2 with the reason on standard error if it cannot be done.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from edgeq.artifact import ValueInfo
from edgeq.calibration import data
from edgeq.errors import EXIT_INVALID_INPUT, EdgeqError
from edgeq.measure import arrays, latency, memory
from edgeq.measure.process import Request
from edgeq.runners import onnx
from edgeq.runners.loaded import LoadedModel, load

SEQUENCE_LENGTH = 128
MEMORY_RUNS = 32

Feed = dict[str, npt.NDArray[Any]]


def perform(request: Request) -> dict[str, Any]:
    """Do one pass in this process; the reply is plain JSON. Raises EdgeqError."""
    passes = {"latency": _latency, "memory": _memory, "quality": _quality}
    with warnings.catch_warnings(record=True) as caught:
        model, reply = passes[request.work](request)
    return {
        **reply,
        "runtime": f"onnxruntime {onnx.version()}",
        "threads": model.threads,
        "prepared": model.prepared,
        "warnings": [" ".join(str(warning.message).split()) for warning in caught],
    }


def _latency(request: Request) -> tuple[LoadedModel, dict[str, Any]]:
    start = time.perf_counter()
    model = load(request.artifact, threads=request.threads)
    load_seconds = time.perf_counter() - start
    feed, inputs = fixed_feed(model, request)
    timing = latency.time_runs(lambda: model.run(feed), request.effort)
    return model, {
        "load_seconds": load_seconds,
        "seconds": timing.seconds,
        "runs": timing.runs,
        "inputs": inputs,
    }


def _memory(request: Request) -> tuple[LoadedModel, dict[str, Any]]:
    baseline = memory.read()
    with memory.Peak() as peak:
        model = load(request.artifact, threads=request.threads)
        loaded = memory.read()
        feed, inputs = fixed_feed(model, request)
        for _ in range(MEMORY_RUNS):
            model.run(feed)
        ran = memory.read()
    # Last, so that what the model takes and what its tokenizer takes are told apart.
    with memory.Peak() as later:
        if model.artifact.text is not None:
            model.tokens(request.text)
        with_tokenizer = memory.read()
    return model, {
        "baseline": baseline.model_dump(),
        "loaded": loaded.model_dump(),
        "ran": ran.model_dump(),
        "with_tokenizer": with_tokenizer.model_dump(),
        "high_water_bytes": max(peak.high_water_bytes, later.high_water_bytes),
        "anonymous_peak_bytes": peak.anonymous_bytes,
        "runs": MEMORY_RUNS,
        "inputs": inputs,
    }


def _quality(request: Request) -> tuple[LoadedModel, dict[str, Any]]:
    model = load(request.artifact, threads=request.threads)
    assert request.outputs is not None
    count = arrays.write_arrays(request.outputs, _outputs(model, request))
    samples = count // len(model.artifact.outputs)
    noun = "evaluation samples" if request.texts == () else "texts, one at a time"
    return model, {"inputs": f"{samples} {noun}"}


def _outputs(model: LoadedModel, request: Request) -> Iterator[npt.NDArray[Any]]:
    """Every output of every sample, outputs of a sample in the artifact's order."""
    for feed in _evaluation_feeds(model, request):
        outputs = model.run(feed)
        for value in model.artifact.outputs:
            yield outputs[value.name]


def _evaluation_feeds(model: LoadedModel, request: Request) -> Iterator[Feed]:
    if request.arrays is None:
        for text in request.texts:
            yield dict(model.tokenize(text))
        return
    ranks = {value.name: len(value.shape) for value in model.artifact.inputs}
    held = data.read_arrays(request.arrays, request.samples)
    yield from data.feeds(request.arrays, held, ranks)


def fixed_feed(model: LoadedModel, request: Request) -> tuple[Feed, str]:
    """What every run of the latency and memory passes is given, and the words that say so."""
    text = model.artifact.text
    if request.feed is not None:
        stored = arrays.read_arrays(request.feed)
        sample = {value.name: next(stored) for value in model.artifact.inputs}
        if text is not None:
            return sample, sequence_words(sample)
        return sample, f"first evaluation sample: {_shapes(sample)}"
    if text is not None:
        feed = sequence(model.tokenize(request.text), text.max_tokens)
        return feed, sequence_words(feed)
    made_up = {value.name: _made_up(value) for value in model.artifact.inputs}
    return made_up, f"no evaluation data, so ones (floats) and zeros: {_shapes(made_up)}"


def sequence(tokens: Mapping[str, npt.NDArray[Any]], max_tokens: int) -> Feed:
    """`tokens` of one text, repeated until they fill the sequence that is timed."""
    length = min(SEQUENCE_LENGTH, max_tokens)
    return {name: np.resize(array, (1, length)) for name, array in tokens.items()}


def sequence_words(feed: Feed) -> str:
    """What a sequence is called in the conditions of a measurement."""
    return f"sequence length {next(iter(feed.values())).shape[1]}, batch 1"


def _made_up(value: ValueInfo) -> npt.NDArray[Any]:
    """Ones, or zeros for what may be an index, in the declared shape with free dimensions 1."""
    shape = tuple(size if isinstance(size, int) else 1 for size in value.shape)
    dtype = np.dtype(value.dtype)
    return np.full(shape, 1 if np.issubdtype(dtype, np.floating) else 0, dtype)


def _shapes(feed: Feed) -> str:
    return ", ".join(
        f"{name} {'×'.join(map(str, a.shape)) or 'scalar'}" for name, a in feed.items()
    )


def _only_reply_on_stdout() -> IO[str]:
    """Standard output for the reply alone: what C code prints goes to standard error from now."""
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return reply


def main() -> int:
    """Read a request, do it, write the reply; the exit status."""
    reply = _only_reply_on_stdout()
    try:
        result = perform(Request.model_validate_json(sys.stdin.buffer.read()))
    except EdgeqError as error:
        print(error, file=sys.stderr)
        return EXIT_INVALID_INPUT
    with reply:
        json.dump(result, reply)
    return 0


if __name__ == "__main__":
    sys.exit(main())
