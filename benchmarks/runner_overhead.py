"""What edgeq's runner costs over a bare onnxruntime loop, in one process on one session.

    python benchmarks/runner_overhead.py ARTIFACT [--tokens 16] [--blocks 200]

The runner's time is what the latency pass records: `time_runs` around `LoadedModel.run`. Blocks of
both alternate, so that what else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import edgeq
from edgeq.formats.onnx.model import OnnxModel
from edgeq.measure.sample_passes import fixed_feed
from edgeq.places.process import Request

RUNS_PER_BLOCK = 5
ALLOWED = 1.02


def block(run: Callable[[], object]) -> list[float]:
    """Seconds of each of `RUNS_PER_BLOCK` calls."""
    seconds = []
    for _ in range(RUNS_PER_BLOCK):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure and print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path, help="an artifact directory or a bundle")
    parser.add_argument("--tokens", type=int, help="cut the sequence, for a shorter run")
    parser.add_argument("--blocks", type=int, default=200, help="pairs of blocks")
    arguments = parser.parse_args()

    model = edgeq.load(arguments.artifact)
    assert isinstance(model, OnnxModel) and model.artifact is not None, "an ONNX artifact"
    feed, inputs = fixed_feed(model, Request(work="latency", artifact=arguments.artifact))
    if arguments.tokens:
        feed = {name: array[:, : arguments.tokens] for name, array in feed.items()}
        inputs = f"sequence length {arguments.tokens}, batch 1"
    session = model._model.session
    names = [value.name for value in model.artifact.outputs]

    bare: list[float] = []
    runner: list[float] = []
    block(lambda: model.run(feed))
    for index in range(arguments.blocks):
        turns = [(bare, lambda: session.run(names, feed)), (runner, lambda: model.run(feed))]
        for seconds, run in turns if index % 2 else reversed(turns):
            seconds += block(run)
    medians = statistics.median(bare), statistics.median(runner)
    ratio = medians[1] / medians[0]
    print(f"{model.artifact.name}, {inputs}, {model.threads} threads, {len(bare)} runs each")
    print(f"bare onnxruntime  median {medians[0] * 1000:.4f} ms")
    print(f"edgeq's runner    median {medians[1] * 1000:.4f} ms")
    print(f"ratio {ratio:.4f} ({'within' if ratio <= ALLOWED else 'above'} {ALLOWED})")


if __name__ == "__main__":
    main()
