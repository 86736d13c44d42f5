"""Sizes, errors, times side by side and peaks of a model's files, by plain onnxruntime."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.zoo.models import ZooModel
from benchmarks.zoo.rows import Row

Array = npt.NDArray[Any]
Feed = dict[str, Array]
_PEAK = """\
import sys, numpy as np, onnxruntime as ort

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024

options = ort.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
feed = dict(np.load(sys.argv[2]))
before = peak()
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for _ in range(5):
    session.run(None, feed)
print(peak() - before)
"""


def session(path: Path, optimized: bool = True) -> Any:
    """A session of one thread, or one that computes as the file is written."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds_of(data: Path) -> list[Feed]:
    """The samples of a file: what was stacked, apart again."""
    arrays = dict(np.load(data))
    count = len(next(iter(arrays.values())))
    return [
        {name: np.asarray(array[index]) for name, array in arrays.items()} for index in range(count)
    ]


def measured(model: ZooModel, files: Mapping[str, Path | str], own: Path) -> list[Row]:
    """Sizes, times side by side, errors and peaks of every file."""
    feeds = feeds_of(own / "evaluation.npz")
    answers = Answers(model, own / "model.onnx", feeds)
    opened: dict[str, Any] = {}
    rows: dict[str, Row] = {}
    for name, file in files.items():
        if isinstance(file, str):
            rows[name] = Row(model.name, name, note=file)
            continue
        try:
            opened[name] = session(file)
            rows[name] = Row(
                model.name,
                name,
                bytes=sum(path.stat().st_size for path in parts(file)),
                **answers.judged(opened[name]),
                peak_bytes=peak(file, answers.first, own),
            )
        except Exception as error:  # what onnxruntime's tools wrote may not open
            opened.pop(name, None)
            said = f"does not open: {error}".split("\n")[0].replace(str(own.absolute()), "")
            rows[name] = Row(model.name, name, note=said[:160])
    times = interleaved(opened, answers.first)
    return [
        replace(row, milliseconds=times[name], ratio=times[name] / times["float"])
        if name in times
        else row
        for name, row in rows.items()
    ]


def parts(file: Path) -> list[Path]:
    """The file and its weights."""
    return [file.resolve(), *file.parent.glob(f"{file.name}.data")]


class Answers:
    """The original's answers, by onnxruntime with its optimizations off."""

    def __init__(self, model: ZooModel, original: Path, feeds: Sequence[Feed]) -> None:
        self._model, self._feeds = model, feeds
        plain = session(original, optimized=False)
        self.first = next(runs(model, plain, feeds))[0]
        """The input that is timed."""
        self._wanted = self._run(plain)

    def judged(self, found: Any) -> dict[str, Any]:
        """The largest relative RMS error of an output of floats, and the share of decisions that
        differ."""
        own = self._run(found)
        errors = [
            float(np.linalg.norm(own[name] - wanted)) / max(float(np.linalg.norm(wanted)), 1e-30)
            for name, wanted in self._wanted.items()
            if wanted.dtype.kind == "f"
        ]
        decides = self._model.decides
        if decides is None:
            return {"error": max(errors)}
        others = (own[decides] > 0.5) != (self._wanted[decides] > 0.5)
        return {"error": max(errors), "differing": float(others.mean())}

    def _run(self, found: Any) -> dict[str, Array]:
        """All samples of each output that is no state, in one array."""
        answers: dict[str, list[Array]] = {}
        for _, outputs in runs(self._model, found, self._feeds):
            for name, array in outputs.items():
                if name not in self._model.state.values():
                    answers.setdefault(name, []).append(np.ravel(array))
        return {name: np.concatenate(arrays) for name, arrays in answers.items()}


def runs(model: ZooModel, found: Any, feeds: Sequence[Feed]) -> Iterator[tuple[Feed, Feed]]:
    """Inputs and outputs of every run: of each sample, or of each of its steps with the state
    carried on."""
    names = [value.name for value in found.get_outputs()]
    shapes = {value.name: value.shape for value in found.get_inputs()}
    zeros = {
        name: np.zeros([n if isinstance(n, int) else 1 for n in shapes[name]], np.float32)
        for name in model.state
    }
    for sample in feeds:
        state = zeros
        for step in _steps(sample) if model.state else [sample]:
            feed = step | state
            outputs = dict(zip(names, found.run(names, feed), strict=True))
            state = {given: outputs[returned] for given, returned in model.state.items()}
            yield feed, outputs


def _steps(sample: Feed) -> Iterator[Feed]:
    longest = max(len(array) for array in sample.values() if array.ndim)
    for step in range(longest):
        yield {name: array[step] if array.ndim else array for name, array in sample.items()}


def interleaved(sessions: Mapping[str, Any], feed: Feed) -> dict[str, float]:
    """The median milliseconds of a run of each, taken in turns."""
    begin = time.perf_counter()
    sessions["float"].run(None, feed)
    once = max(time.perf_counter() - begin, 1e-6)
    rounds, count = int(min(200, max(7, 1.5 / once))), max(1, int(0.002 / once))
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    names = list(sessions)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begin = time.perf_counter()
            for _ in range(count):
                sessions[name].run(None, feed)
            taken[name].append((time.perf_counter() - begin) / count * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def peak(file: Path, feed: Feed, own: Path) -> int:
    """What opening and running the file adds to the peak of a fresh process, in bytes."""
    data = own / "first.npz"
    np.savez(data, **feed)  # type: ignore[arg-type]  # names of inputs
    command = [sys.executable, "-c", _PEAK, str(file), str(data)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
