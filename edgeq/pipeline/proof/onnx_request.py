"""Requests to a process that runs an .onnx original."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Frozen

SAMPLE_FILE = "sample.npz"
"""One sample that the model runs on, with the sample axis of calibration data in front."""


class OnnxProofRequest(Frozen):
    """Compare `model` with the graph in the directory `graph` on the data set `arrays`.

    Without data, on random numbers. One sample is written to the directory `outputs`.
    """

    work: Literal["proof"] = "proof"
    model: Path
    graph: Path
    outputs: Path
    arrays: Path | None = None
    samples: int | None = None
    state: dict[str, str] = Field(default_factory=dict)


class OnnxAnswersRequest(Frozen):
    """Write answers of `model` to `samples` of the data set `arrays` into the directory `outputs`.

    outputs: in the layout that `edgeq.measure.reference` reads.
    """

    work: Literal["reference"] = "reference"
    model: Path
    outputs: Path
    arrays: Path
    samples: int | None = None
    state: dict[str, str] = Field(default_factory=dict)
