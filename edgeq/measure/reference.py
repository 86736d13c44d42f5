"""The reference's answers to the evaluation data, recorded once and read by every pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from edgeq.core import canonical
from edgeq.core.artifact import Frozen, read_record
from edgeq.core.errors import InvalidInput, Problem
from edgeq.measure import arrays
from edgeq.measure.predictions import Floats, Predictions
from edgeq.recipe.windows import drawn

RECORD_FILE = "reference.json"
ANSWERS_FILE = "answers.npy"
CHOICES_FILE = "choices.npy"
"""Log-likelihoods of the choices of each question."""
OWN_READING = "edgeq's reading of the weights"
"""The reference's name if the model's own library is not installed."""


FLOAT_PARTS = "the float models of its parts"
"""The same of several models together; each part was compared with its original."""


class Recorded(Frozen):
    """The reference's runtime, and for language models its noise floor."""

    runtime: str = Field(description="Names and versions of the original's runtime.")
    vocabulary: int | None = None
    noise: dict[int, float] = Field(
        default_factory=dict, description="Mean KL of a window from itself, token by token."
    )


def write_record(folder: Path, recorded: Recorded) -> None:
    """Write the record next to the answers in `folder`."""
    content = canonical.to_json(recorded.model_dump(mode="json"))
    (folder / RECORD_FILE).write_text(content, encoding="utf-8")


def read_recorded(folder: Path) -> Recorded | None:
    """The record in `folder`; None for an artifact's directory."""
    path = folder / RECORD_FILE
    return Recorded.model_validate_json(path.read_bytes()) if path.is_file() else None


def reference_name(folder: Path) -> str:
    """The name of the reference in `folder`: recorded answers, or an artifact."""
    recorded = read_recorded(folder)
    if recorded:
        return recorded.runtime
    return FLOAT_PARTS if read_record(folder).parts else OWN_READING


class RecordedPredictions(Predictions):
    """Predictions of windows in recorded order."""

    def __init__(self, folder: Path, recorded: Recorded) -> None:
        assert recorded.vocabulary is not None  # missing only in encoders' records
        self.vocabulary = recorded.vocabulary
        self._noise = recorded.noise
        self._stored = arrays.read_arrays(folder / ANSWERS_FILE)

    def scored(self, window: Sequence[int]) -> Floats:
        """See `Predictions.scored`; each window once, in order."""
        if next(self._stored).tolist() != list(window):
            raise ValueError("windows must be read in recorded order")
        logits: Floats = next(self._stored)
        return logits

    def noise(self, index: int, window: Sequence[int], whole: Floats) -> float:
        """See `Predictions.noise`."""
        return self._noise[index]


def recorded_windows(folder: Path) -> Iterator[list[int]]:
    """Token ids of the recorded windows."""
    for position, array in enumerate(arrays.read_arrays(folder / ANSWERS_FILE)):
        if position % 2 == 0:
            yield np.asarray(array).tolist()


def same_windows(windows: Sequence[list[int]], folder: Path, where: str) -> list[list[int]]:
    """Those of a candidate's windows that are recorded, which may be a draw of all.

    Raises InvalidInput if the candidate tokenizes the evaluation text differently.
    """
    recorded = list(recorded_windows(folder))
    windows = drawn(windows, len(recorded))
    if windows == recorded:
        return recorded
    pairs = enumerate(zip(recorded, windows, strict=False))
    index = next((i for i, (a, b) in pairs if a != b), min(len(recorded), len(windows)))
    what = f"tokenizes the evaluation text differently from the original, in window {index}"
    remedy = "save the model's tokenizer again, or report it with the model's name"
    raise InvalidInput(Problem(where, what, remedy))
