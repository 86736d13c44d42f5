"""Statistics of a GGUF file's weights, from within llama.cpp: for every architecture it knows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.products import LOOKUP, Product, Watch, open_watched

Floats = NDArray[np.float32]
Windows = Sequence[Sequence[int]]
_SUMS_FILE, _WINDOWS_KEPT = "sums.npz", 8


def importance_inside(
    path: Path,
    weights: Collection[str],
    windows: Windows,
    dataset: str,
    threads: int,
    progress: Progress,
    outputs: int | None = None,
    kept: Steps | None = None,
) -> Importance:
    """The statistics of llama.cpp's `llama-imatrix`: sums of squared inputs of each weight.

    windows: token ids of calibration text, all of the same length. dataset: the name of the text.
    outputs: how many last tokens of a window go through the output layer, by default all: for a
    large vocabulary it costs more than all other layers. kept: for this call; the windows that an
    interrupted one had finished are not run again.
    """
    found = _Sums()
    if kept and (stored := kept.find(_SUMS_FILE)):
        found.load(stored)
    watch, model, size = Watch(weights, found.add), LlamaModel(path), len(windows[0])
    last = outputs or size
    open_watched(model, watch, size, last, threads)
    for index in range(found.windows, len(windows)):
        progress(f"importance: window {index + 1} of {len(windows)}")
        model.clear()
        with watch.passing():
            model.decode_last(np.array(windows[index], np.int32), last)
        found.windows += 1
        if kept and found.windows % _WINDOWS_KEPT == 0:
            with kept.writing(_SUMS_FILE) as partial:
                found.save(partial)
    return Importance(
        sums={
            name: (each if len(each) > 1 else each[0]).astype(np.float32)
            for name, each in found.sums.items()
        },
        counts={
            name: each if len(each) > 1 else int(each[0]) for name, each in found.counts.items()
        },
        datasets=(dataset,),
        chunks=len(windows),
        chunk_tokens=size,
    )


class _Sums:
    """Sums of squared inputs and numbers of rows, by weight and expert, over `windows`."""

    def __init__(self) -> None:
        self.windows = 0
        self.sums: dict[str, NDArray[np.float64]] = {}
        self.counts: dict[str, NDArray[np.int64]] = {}

    def add(self, product: Product) -> None:
        if product.kind == LOOKUP:
            return
        experts, parts = product.by_expert()
        columns = next(iter(parts.values())).shape[-1]
        total = self.sums.setdefault(product.weight, np.zeros((experts, columns)))
        seen = self.counts.setdefault(product.weight, np.zeros(experts, np.int64))
        for expert, rows in parts.items():
            total[expert] += np.square(rows).sum(0, dtype=np.float64)
            seen[expert] += len(rows)

    def save(self, path: Path) -> None:
        arrays: dict[str, NDArray[Any]] = {
            "windows": np.array(self.windows),
            "names": np.array(list(self.sums), np.str_),
        }
        for index, name in enumerate(self.sums):
            arrays[f"{index}.sum"], arrays[f"{index}.count"] = self.sums[name], self.counts[name]
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as stored:
            self.windows = int(stored["windows"])
            for index, name in enumerate(stored["names"].tolist()):
                self.sums[name] = stored[f"{index}.sum"]
                self.counts[name] = stored[f"{index}.count"]


class Scored:
    """A file's logits for the last tokens of texts, with one weight's results disturbed or none.

    rows: tokens of each window that are scored, its last ones.
    """

    def __init__(
        self, path: Path, weights: Collection[str], windows: Windows, rows: int, threads: int
    ) -> None:
        self._windows, self._rows = windows, rows
        self._weight, self._noise = "", 0.0
        self._random = np.random.default_rng(0)
        self._watch = Watch(weights, self._disturb)
        self._model = LlamaModel(path)
        open_watched(self._model, self._watch, len(windows[0]), rows, threads)

    def logits(self, weight: str = "", noise: float = 0.0) -> list[Floats]:
        """float32 `(rows, vocabulary)` of every window.

        noise: the mean square of what is added to the results of `weight`, relative to theirs.
        """
        self._weight, self._noise = weight, noise
        self._random = np.random.default_rng(0)
        found = []
        for window in self._windows:
            self._model.clear()
            with self._watch.passing():
                found.append(self._model.decode_last(np.array(window, np.int32), self._rows))
        return found

    def _disturb(self, product: Product) -> None:
        if product.weight != self._weight:
            return
        output = product.output
        scale = np.sqrt(self._noise * np.mean(np.square(output, dtype=np.float64)))
        output += np.float32(scale) * self._random.standard_normal(output.shape, np.float32)
