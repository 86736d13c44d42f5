"""The process that opens built artifacts and runs each once."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from edgeq.core.artifact import read_record
from edgeq.core.errors import InvalidInput, Problem
from edgeq.measure import arrays
from edgeq.measure.worker import perform, serve
from edgeq.pipeline.proof.request import OpenRequest
from edgeq.places.process import Request

_REMEDY = "choose another variant, or report it with this line"


def open_all(request: OpenRequest) -> dict[str, Any]:
    """Run every artifact. Raises InvalidInput for the first that does not run or gives NaN."""
    for each in request.requests:
        name = read_record(each.artifact).name
        try:
            perform(each)
        except InvalidInput as error:
            what = f"the built file does not run: {error.problems[0].what}"
            raise InvalidInput(Problem(name, what, _REMEDY)) from None
        if _has_nan(each):
            what = "the built file gives NaN on a sample that the original handles"
            raise InvalidInput(Problem(name, what, _REMEDY))
    return {"opened": len(request.requests)}


def _has_nan(request: Request) -> bool:
    assert request.outputs is not None
    return any(
        array.dtype.kind == "f" and bool(np.isnan(array).any())
        for array in arrays.read_arrays(request.outputs)
    )


if __name__ == "__main__":
    sys.exit(serve(lambda given: open_all(OpenRequest.model_validate_json(given))))
