"""Starts the process that runs an .onnx original."""

from __future__ import annotations

from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.pipeline.proof.onnx_request import OnnxAnswersRequest, OnnxProofRequest
from edgeq.places.process import PassFailed, run_worker


def run_onnx(request: OnnxProofRequest | OnnxAnswersRequest) -> dict[str, Any]:
    """The reply of a process that runs the original; see `edgeq.pipeline.proof.onnx_worker`.

    Raises InvalidInput if it ends without a reply.
    """
    try:
        return run_worker(request, module="edgeq.pipeline.proof.onnx_worker")
    except PassFailed as error:
        what = f"the original could not be run: {error}"
        library = "onnxruntime" if request.images is None else "transformers"
        remedy = f"see that {library} runs it by itself, or free some memory"
        raise InvalidInput(Problem(str(request.images or request.model), what, remedy)) from None
