"""Statistics and codes of a GGUF file whose architecture edgeq does not read: llama.cpp gives them.

Weights are rounded one by one, on the inputs that they have in the float model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.core.threads import default_threads
from edgeq.formats.gguf.header import TensorEntry
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.inside import importance_inside
from edgeq.formats.gguf.moments import (
    in_passes,
    load_moments,
    moments_inside,
    most_bytes,
    save_moments,
)
from edgeq.formats.gguf.parts import read_whole
from edgeq.formats.gguf.requantize import rows_of
from edgeq.quantize.codes import load_codes, save_codes
from edgeq.quantize.decide import Decision
from edgeq.quantize.ggml.mixes import is_quantized
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.methods.base import Statistics
from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.model import Choice, scalable
from edgeq.quantize.number_formats import QuantizedTensor, number_format

_EVERY = 8
"""One in this many windows is set aside, to judge whole files by."""


def set_aside(windows: Sequence[list[int]]) -> list[list[int]]:
    """The windows that rounding does not see."""
    return list(windows[_EVERY - 1 :: _EVERY])


def _learnt(windows: Sequence[list[int]]) -> list[list[int]]:
    return [window for index, window in enumerate(windows) if index % _EVERY != _EVERY - 1]


@dataclass(frozen=True)
class Known:
    """What rounding goes by.

    source: the file. windows: token ids of calibration text, None without any. importance: makes
    the matrix. keep: finds the directory that a function fills with what names say, or has it
    filled; None to keep nothing for other files of the same source. room: bytes that may be kept.
    """

    source: Path
    windows: Sequence[list[int]] | None
    importance: Callable[[], Importance]
    progress: Progress
    keep: Callable[[Sequence[str], Callable[[Path], None]], Path] | None = None
    room: int = 0


def importance_of_file(
    source: Path, windows: Sequence[list[int]], dataset: str, progress: Progress
) -> Importance:
    """The importance matrix from calibration text. dataset: its name, which the matrix carries."""
    tensors = read_whole(source).tensors
    names = [name for name, entry in tensors.items() if is_quantized(name, entry.shape)]
    threads = default_threads()
    return importance_inside(source, names, _learnt(windows), dataset, threads, progress)


def codes_of_file(
    known: Known, decisions: Mapping[str, Decision], steps: Steps
) -> dict[str, QuantizedTensor]:
    """The codes of every tensor that `decisions` put in a number format, by its name.

    Of experts all rows, one expert's below the other's. A tensor without statistics, or an expert
    that no token chose, is rounded as its method does without calibration data. steps: of this
    call; what an interrupted one rounded is not rounded again.
    """
    tensors = read_whole(known.source).tensors
    chosen = {name: each.choice for name, each in decisions.items() if each.choice is not None}
    found: dict[str, QuantizedTensor] = {}
    for name in chosen:
        if stored := steps.find(_step(name)):
            found |= load_codes(stored)
    left = {name: choice for name, choice in chosen.items() if name not in found}
    for name, statistics in _statistics(known, tensors, left):
        known.progress(name)
        found[name] = _round(tensors[name], left[name], statistics)
        with steps.writing(_step(name)) as partial:
            save_codes(partial, {name: found[name]})
    return {name: found[name] for name in chosen}


def _step(name: str) -> str:
    return f"{name}.npz"


def _statistics(
    known: Known, tensors: Mapping[str, TensorEntry], chosen: Mapping[str, Choice]
) -> Iterator[tuple[str, list[Statistics | None]]]:
    """Each tensor with what its method reads, of every expert; None where nothing was seen."""
    reads = {name: rounding_method(choice.method).reads for name, choice in chosen.items()}
    if known.windows is None:
        reads = dict.fromkeys(reads, "nothing")
    done: set[str] = set()
    stacks = {name: _stack(tensors[name]) for name in chosen}
    sought = {name: stacks[name][::2] for name, word in reads.items() if word == "moments"}
    if sought and known.windows is not None:
        for name, moments in _moments(known, known.windows, tensors, sought):
            done.add(name)
            yield name, [None if each is None else Statistics.of(each) for each in moments]
    powers = known.importance() if "power" in reads.values() else None
    for name in chosen:
        found = powers.weights(name) if powers and reads[name] == "power" else None
        if name not in done:
            experts = [None] * stacks[name][0] if found is None else np.atleast_2d(found)
            yield name, [each if each is None else Statistics(power=each) for each in experts]


def _moments(
    known: Known,
    windows: Sequence[list[int]],
    tensors: Mapping[str, TensorEntry],
    sought: Mapping[str, tuple[int, int]],
) -> Iterator[tuple[str, list[Moments | None]]]:
    """`moments_inside` of the `sought` weights; kept for all, if they are to be and there is room.

    Files of a search differ in few weights: without keeping, each would take passes of its own.
    """

    def collect(
        columns: Mapping[str, tuple[int, int]],
    ) -> Iterator[tuple[str, list[Moments | None]]]:
        threads = default_threads()
        return moments_inside(known.source, columns, _learnt(windows), threads, known.progress)

    every = {
        name: _stack(entry)[::2]
        for name, entry in tensors.items()
        if is_quantized(name, entry.shape)
    }
    if known.keep is None or most_bytes(every) > known.room or not sought.keys() <= every.keys():
        yield from collect(sought)
        return
    for names in in_passes(every):
        if not sought.keys().isdisjoint(names):
            passes = collect({name: every[name] for name in names})
            yield from load_moments(known.keep(names, partial(save_moments, passes)), sought)


def _round(
    entry: TensorEntry, choice: Choice, statistics: Sequence[Statistics | None]
) -> QuantizedTensor:
    """Codes of a tensor, all experts' rows one below the other."""
    stored, method = number_format(choice.number_format), rounding_method(choice.method)
    experts, rows, _ = _stack(entry)
    read, parts = rows_of(entry), []
    for expert, seen in zip(range(experts), statistics, strict=True):
        matrix = read(expert * rows, (expert + 1) * rows)
        scalable(entry.name, matrix, stored)
        parts.append(method.round(matrix, seen, stored))
    by = {part.method for part in parts}
    return QuantizedTensor(
        stored,
        np.concatenate([part.codes for part in parts]),
        np.concatenate([part.scales for part in parts]),
        choice.method if choice.method in by else parts[0].method,
    )


def _stack(entry: TensorEntry) -> tuple[int, int, int]:
    """Experts, rows of one and columns of a tensor."""
    *experts, rows, columns = entry.shape
    return math.prod(experts), rows, columns
