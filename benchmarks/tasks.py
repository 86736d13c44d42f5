"""What each task loses in 8 bits, one row for each recipe.

    python -m benchmarks.tasks RECIPE… [--page docs/measured/tasks.md]

The recipe's artifact with the fewest bits is compared with the float model, both in ONNX and on
the evaluation data; times are medians of runs taken in turns. If the recipe has a Core ML target
too, its answers are compared with ONNX's, both in 8 bits. A recipe of parts is checked as a whole.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgeq.core.store import Store
from edgeq.core.temporary import TemporaryFolder
from edgeq.formats.base import Model
from edgeq.formats.loaded import load
from edgeq.measure.answers import compared_answers
from edgeq.measure.arrays import read_arrays
from edgeq.measure.inputs import Given, given_samples
from edgeq.measure.quality import compare
from edgeq.measure.records import Score
from edgeq.measure.sample_passes import answer_samples, fixed_feed
from edgeq.pipeline.build.build import Built, build, build_float
from edgeq.pipeline.check.reference import evaluation_of
from edgeq.pipeline.parts import kept_parts
from edgeq.pipeline.plan.plan import make_plan
from edgeq.places.process import Request
from edgeq.recipe.parts import has_parts

ROUNDS, APPLE_SAMPLES = 40, 24
COLUMNS = (
    "recipe",
    "task",
    "artifact",
    "size",
    "time",
    "metrics, float → 8 bits",
    "Core ML = ONNX",
)


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def row(path: Path) -> tuple[str, ...]:
    """The cells of a recipe of one model."""
    planned, store = make_plan(path, weights=True), Store()
    built = {each.artifact.format: each for each in _fewest_bits(build(planned, store, quiet))}
    original, own = build_float(planned, store, quiet, "onnx"), built["onnx"]
    evaluation = evaluation_of(planned, store, quiet)
    assert evaluation is not None
    with TemporaryFolder() as name:
        folder = Path(name)
        given = given_samples(evaluation, original.path, original.artifact, folder)
        answers = [_answers(each, given, folder) for each in (own, original)]
        scores = compared_answers(own.artifact, given, *answers).scores
        metrics = _in_words(scores) or _distance(own, *answers)
        pace = _times(load(own.path), load(original.path), given)
        same = "–"
        if "coreml" in built:
            few = dataclasses.replace(evaluation, samples=APPLE_SAMPLES)
            given = given_samples(few, original.path, original.artifact, folder)
            both = [_answers(built[name], given, folder) for name in ("coreml", "onnx")]
            found = compared_answers(own.artifact, given, *both).scores
            same = _in_words({key: s for key, s in found.items() if s.original is None})
    return (
        planned.plan.recipe,
        planned.recipe.model.task,
        own.artifact.name,
        f"{own.artifact.bytes / original.artifact.bytes:.2f}",
        f"{pace:.2f}",
        metrics,
        same,
    )


def row_of_parts(path: Path) -> tuple[str, ...]:
    """The cells of a recipe of parts, from its verdict on this machine."""
    (whole, *_) = kept_parts(path, ["here"], False, quiet)
    own, original = whole.verdict.measurement, whole.verdict.float_measurement
    assert own.latency is not None
    assert original.latency is not None
    return (
        path.stem,
        whole.built.artifact.task,
        ", ".join(built.artifact.name for _, built, _ in whole.parts.values()),
        f"{own.download_bytes / original.download_bytes:.2f}",
        f"{own.latency.p50.seconds / original.latency.p50.seconds:.2f}",
        _in_words(own.quality.scores) if own.quality else "by part",
        "–",
    )


def _fewest_bits(built: list[Built]) -> Iterator[Built]:
    for format in dict.fromkeys(each.artifact.format for each in built):
        own = [each for each in built if each.artifact.format == format]
        yield min(own, key=lambda each: each.artifact.weight_bytes)


def _answers(built: Built, given: Given, folder: Path) -> Path:
    """The file with an artifact's answers."""
    file = folder / f"{built.artifact.format}-{built.artifact.variant}.npy"
    answer_samples(
        Request(work="quality", artifact=built.path, outputs=file, **(given.judged or {}))
    )
    return file


def _times(own: Model, original: Model, given: Given) -> float:
    """The median time by the original's, of runs in turns."""
    timed = {key: value for key, value in given.timed.items() if key in ("feed", "text")}
    assert original.artifact is not None
    request = Request(work="latency", artifact=Path(), **timed)
    feed, _ = fixed_feed(original, request)
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for model, times in zip((own, original), seconds, strict=True):
            start = time.perf_counter()
            model.run(feed)
            times.append(time.perf_counter() - start)
    return statistics.median(seconds[0]) / statistics.median(seconds[1])


def _in_words(scores: Mapping[str, Score]) -> str:
    words = []
    for name, score in scores.items():
        before = "" if score.original is None else f"{score.original:.4f} → "
        words.append(f"{name} {before}{score.value:.4f}")
    return "; ".join(words)


def _distance(built: Built, own: Path, original: Path) -> str:
    """Of models of arrays."""
    names = [value.name for value in built.artifact.outputs]
    found = compare(names, read_arrays(own), read_arrays(original), logits=False, may_vary=False)
    worst = max(output.relative_rms_error or 0.0 for output in found.values())
    return f"error {worst:.4f}"


def main() -> None:
    """Print the rows, and write them into the page below its first table's head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    print(*lines, sep="\n")
    for path in given.recipes:
        cells = row_of_parts(path) if has_parts(path) else row(path)
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if given.page is not None:
        text = given.page.read_text(encoding="utf-8")
        head, _, rest = text.partition("| recipe |")
        tail = rest.partition("\n\n")[2]
        given.page.write_text(head + "\n".join(lines) + "\n\n" + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
