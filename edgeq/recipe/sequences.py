"""Samples that are sequences, for a model that passes a state from one step to the next.

An array has the steps as its second axis, `(samples, steps, …)`; one without that axis is the same
at every step. The state has no array: it starts as zeros, and then is the model's own output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.validation_messages import suggest

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]
State = Mapping[str, str]
"""The output that becomes an input of the next step, by that input's name."""


def sequences(
    path: Path, arrays: Mapping[str, Array], inputs: Sequence[ValueInfo], state: State
) -> Iterator[list[Feed]]:
    """Each sample as the feeds of its steps, with zeros as state.

    Raises InvalidInput at once for names or ranks that do not match; `path` names the file.
    """
    given = [value for value in inputs if value.name not in state]
    problems = [*_misfits(path, arrays, given, state)]
    if problems:
        raise InvalidInput(problems)
    stepped = [v.name for v in given if arrays[v.name].ndim == len(v.shape) + 2]
    zeros = {value.name: _zeros(value) for value in inputs if value.name in state}
    return _samples(arrays, stepped, zeros)


def require_state(inputs: Sequence[ValueInfo], outputs: Sequence[ValueInfo], state: State) -> None:
    """Raise InvalidInput if the model lacks an input or output of the state."""
    problems = []
    for noun, own, wanted in (("input", inputs, state), ("output", outputs, state.values())):
        names = [value.name for value in own]
        for name in wanted:
            if name not in names:
                what = f"the model has no {noun} {name!r}"
                problems.append(Problem("model.state", what, suggest(name, names)))
    if problems:
        raise InvalidInput(problems)


def carried(
    steps: Sequence[Feed], run: Callable[[Feed], Mapping[str, Array]], state: State
) -> Iterator[tuple[Feed, Mapping[str, Array]]]:
    """Run the steps of one sample with the state passed on: the inputs and outputs of each step."""
    values: dict[str, Array] = {}
    for step in steps:
        feed = {**step, **values}
        outputs = run(feed)
        yield feed, outputs
        values = {name: outputs[output] for name, output in state.items()}


def joined(
    steps: Sequence[Feed],
    run: Callable[[Feed], Mapping[str, Array]],
    state: State,
    outputs: Sequence[str],
) -> list[Array]:
    """Each output of one sample with its steps along a first axis."""
    made = [each for _, each in carried(steps, run, state)]
    return [np.stack([each[name] for each in made]) for name in outputs]


def _samples(
    arrays: Mapping[str, Array], stepped: Sequence[str], zeros: Feed
) -> Iterator[list[Feed]]:
    for index in range(len(next(iter(arrays.values())))):
        sample = {name: np.asarray(array[index]) for name, array in arrays.items()}
        count = min(len(sample[name]) for name in stepped)
        yield [
            {n: a[step] if n in stepped else a for n, a in sample.items()} | dict(zeros)
            for step in range(count)
        ]


def _misfits(
    path: Path, arrays: Mapping[str, Array], given: Sequence[ValueInfo], state: State
) -> Iterator[Problem]:
    names = [value.name for value in given]
    for name in arrays:
        if name in state:
            remedy = "remove it: a state starts as zeros and is carried on"
            yield Problem(str(path), f"holds the state {name!r}", remedy)
        elif name not in names:
            yield Problem(str(path), f"the model has no input {name!r}", suggest(name, names))
    for value in given:
        if value.name not in arrays:
            what = f"no array for the input {value.name!r}"
            yield Problem(str(path), what, f"it has: {', '.join(arrays)}")
        elif arrays[value.name].ndim - len(value.shape) not in (1, 2):
            rank, shape = len(value.shape), arrays[value.name].shape
            what = f"{value.name!r} has the shape {shape}, for an input of rank {rank}"
            remedy = f"give it {rank + 2} axes (samples, steps, …), or {rank + 1} without steps"
            yield Problem(str(path), what, remedy)
    ranks = {value.name: len(value.shape) for value in given}
    if not any(array.ndim == ranks.get(name, 0) + 2 for name, array in arrays.items()):
        what = "no array has steps along its second axis"
        yield Problem(str(path), what, "with model.state, give arrays of (samples, steps, …)")


def _zeros(value: ValueInfo) -> Array:
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    return np.zeros(shape, value.dtype)
