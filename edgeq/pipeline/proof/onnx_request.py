"""Requests to a process that runs an .onnx original."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.tasks import TENSOR
from edgeq.core.terms import TextOrPair

SAMPLE_FILE = "sample.npz"
"""One sample that the model runs on, with the sample axis of calibration data in front."""


class OnnxRequest(Frozen):
    """Run `model` on `samples` of the data set `arrays`, or on `texts`.

    tokenizer: the directory with the files of its tokenizer; None for a model of arrays. images:
    the directory that `model` was exported from, which answers instead. dimension: of an embedding,
    if it is not all of it.
    """

    model: Path
    outputs: Path
    task: str = TENSOR.name
    dimension: int | None = None
    arrays: Path | None = None
    samples: int | None = None
    state: dict[str, str] = Field(default_factory=dict)
    tokenizer: Path | None = None
    images: Path | None = None
    texts: tuple[TextOrPair, ...] = ()


class OnnxProofRequest(OnnxRequest):
    """Compare `model` with the graph in the directory `graph`.

    Without data, on random numbers. One sample is written to the directory `outputs`.
    """

    work: Literal["proof"] = "proof"
    graph: Path


class OnnxAnswersRequest(OnnxRequest):
    """Write answers of `model` into the directory `outputs`.

    outputs: in the layout that `edgeq.measure.reference` reads.
    """

    work: Literal["reference"] = "reference"
