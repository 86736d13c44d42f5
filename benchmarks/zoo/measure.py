"""Sizes, errors, times side by side and peaks of a model's files, by plain onnxruntime."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
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


def feeds_of(data: Path, model: Path) -> list[Feed]:
    """The samples of a file as the model takes them: what was stacked, apart again."""
    arrays = dict(np.load(data))
    count = len(next(iter(arrays.values())))
    return [
        {name: np.asarray(array[index]) for name, array in arrays.items()} for index in range(count)
    ]


def measured(model: ZooModel, files: Mapping[str, Path | str], own: Path) -> list[Row]:
    """Sizes, times side by side, errors and peaks of every file."""
    feeds = feeds_of(own / "evaluation.npz", own / "model.onnx")
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
                error=answers.error(opened[name]),
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
        self._state, self._feeds = model.state, feeds
        self._wanted = self._run(session(original, optimized=False))

    @property
    def first(self) -> Feed:
        """The input that is timed."""
        if not self._state:
            return self._feeds[0]
        steps = self._steps(self._feeds[0])
        return next(iter(steps)) | self._zeros(self._shapes)

    def error(self, model: Any) -> float:
        """The largest relative RMS error of an output of floats."""
        found = self._run(model)
        pairs = zip(found, self._wanted, strict=True)
        return max(
            float(np.linalg.norm(own - wanted)) / max(float(np.linalg.norm(wanted)), 1e-30)
            for own, wanted in pairs
            if wanted.dtype.kind == "f"
        )

    def _run(self, model: Any) -> list[Array]:
        self._shapes = {value.name: value.shape for value in model.get_inputs()}
        names = [value.name for value in model.get_outputs()]
        answers = []
        for feed in self._feeds:
            if not self._state:
                answers.append(model.run(names, feed))
                continue
            answers += self._sequence(model, names, feed)
        return [
            np.concatenate([np.ravel(each) for each in output]).astype(np.float64)
            for output in zip(*answers, strict=True)
        ]

    def _sequence(self, model: Any, names: list[str], feed: Feed) -> list[list[Array]]:
        """The outputs of every step, the state carried on."""
        answers, state = [], self._zeros(self._shapes)
        for step in self._steps(feed):
            outputs = dict(zip(names, model.run(names, step | state), strict=True))
            state = {given: outputs.pop(returned) for given, returned in self._state.items()}
            answers.append(list(outputs.values()))
        return answers

    def _steps(self, feed: Feed) -> list[Feed]:
        longest = max(len(array) for array in feed.values() if array.ndim)
        return [
            {name: array[step] if array.ndim else array for name, array in feed.items()}
            for step in range(longest)
        ]

    def _zeros(self, shapes: Mapping[str, Sequence[Any]]) -> Feed:
        sizes = {
            name: [n if isinstance(n, int) else 1 for n in shapes[name]] for name in self._state
        }
        return {name: np.zeros(size, np.float32) for name, size in sizes.items()}


def interleaved(sessions: Mapping[str, Any], feed: Feed) -> dict[str, float]:
    """The median milliseconds of a run of each, taken in turns."""
    begin = time.perf_counter()
    sessions["float"].run(None, feed)
    once = max(time.perf_counter() - begin, 1e-6)
    rounds, runs = int(min(60, max(7, 1.5 / once))), max(1, int(0.002 / once))
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, model in sessions.items():
            begin = time.perf_counter()
            for _ in range(runs):
                model.run(None, feed)
            taken[name].append((time.perf_counter() - begin) / runs * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def peak(file: Path, feed: Feed, own: Path) -> int:
    """What opening and running the file adds to the peak of a fresh process, in bytes."""
    data = own / "first.npz"
    np.savez(data, **feed)  # type: ignore[arg-type]  # names of inputs
    command = [sys.executable, "-c", _PEAK, str(file), str(data)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
