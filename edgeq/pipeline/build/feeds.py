"""Calibration data that is arrays, as inputs of the float graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.core.artifact import MODEL_FILE, ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.quantize.statistics import Feed
from edgeq.recipe import array_sets
from edgeq.recipe.schema import DataRef

if TYPE_CHECKING:
    from edgeq.recipe.sequences import State


def array_feeds(path: Path, samples: int | None, inputs: Sequence[ValueInfo]) -> list[Feed]:
    """The samples of an .npz file as inputs of a graph. Raises InvalidInput for those that do not
    fit them.
    """
    from edgeq.formats.samples import fit

    arrays = array_sets.read_arrays(path, samples)
    feeds = array_sets.feeds(path, arrays, {value.name: len(value.shape) for value in inputs})
    try:
        return [{value.name: fit(feed[value.name], value) for value in inputs} for feed in feeds]
    except InvalidInput as error:
        problems = [Problem(f"{path}: {p.where}", p.what, p.remedy) for p in error.problems]
        raise InvalidInput(problems) from None


def stepped_feeds(
    path: Path, reference: DataRef, inputs: Sequence[ValueInfo], state: State, graph: Path
) -> list[Feed]:
    """Every step of every sequence, with the float model's state at that step."""
    from edgeq.core.threads import default_threads
    from edgeq.formats.samples import fit
    from edgeq.models.onnx_session import open_session
    from edgeq.recipe.sequences import carried, sequences

    session = open_session(graph / MODEL_FILE, threads=default_threads())
    names = [value.name for value in session.get_outputs()]

    def fitted(feed: Feed) -> Feed:
        return {value.name: fit(feed[value.name], value) for value in inputs}

    def run(feed: Feed) -> dict[str, Any]:
        return dict(zip(names, session.run(None, fitted(feed)), strict=True))

    arrays = array_sets.read_arrays(path, reference.samples)
    return [
        fitted(feed)
        for steps in sequences(path, arrays, inputs, state)
        for feed, _ in carried(steps, run, state)
    ]
