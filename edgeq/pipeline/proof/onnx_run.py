"""Starts the process that runs an .onnx original, and the one that opens what was built from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.artifact import Artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.measure import arrays
from edgeq.pipeline.proof.onnx_request import SAMPLE_FILE, OnnxAnswersRequest, OnnxProofRequest
from edgeq.places.process import PassFailed, Request, run_worker

_REMEDY = "nothing was kept; choose another variant, or report it with this line"


def run_onnx(request: OnnxProofRequest | OnnxAnswersRequest) -> dict[str, Any]:
    """The reply of a process that runs the original; see `edgeq.pipeline.proof.onnx_worker`.

    Raises InvalidInput where it ends without one.
    """
    try:
        return run_worker(request, module="edgeq.pipeline.proof.onnx_worker")
    except PassFailed as error:
        what = f"the original could not be run: {error}"
        raise InvalidInput(Problem(str(request.model), what, "free some memory")) from None


def run_once(directory: Path, artifact: Artifact, proof: Path) -> None:
    """Open an artifact in a fresh process and run it on the sample in the directory `proof`.

    Raises InvalidInput where it does not open, does not run or gives NaN or infinity.
    """
    sample = (proof / SAMPLE_FILE).absolute()
    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        outputs = Path(folder, "outputs.npy")
        request = Request(work="quality", artifact=directory, arrays=sample, outputs=outputs)
        try:
            run_worker(request)
        except PassFailed as error:
            what = f"the file that was built does not run: {error}"
            raise InvalidInput(Problem(artifact.name, what, _REMEDY)) from None
        except InvalidInput as error:
            what = f"the file that was built does not run: {error.problems[0].what}"
            raise InvalidInput(Problem(artifact.name, what, _REMEDY)) from None
        for value, name in _odd(outputs, artifact):
            what = f"its output {name!r} holds {value} on a sample that the original runs on"
            raise InvalidInput(Problem(artifact.name, what, _REMEDY))


def _odd(outputs: Path, artifact: Artifact) -> Iterator[tuple[str, str]]:
    for value, array in zip(artifact.outputs, arrays.read_arrays(outputs), strict=True):
        if array.dtype.kind == "f" and np.isnan(array).any():
            yield "NaN", value.name
