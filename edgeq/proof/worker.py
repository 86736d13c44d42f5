"""The process that runs originals: `python -m edgeq.proof.worker`, torch in it and nowhere else."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import TypeAdapter

from edgeq.models.original.network import offline
from edgeq.proof.request import AnswersRequest, ProofRequest
from edgeq.runners.worker import serve

_REQUESTS: TypeAdapter[ProofRequest | AnswersRequest] = TypeAdapter(ProofRequest | AnswersRequest)


def perform(given: bytes) -> dict[str, Any]:
    """Do what is asked for; the reply is plain JSON. Raises EdgeqError."""
    offline()
    request = _REQUESTS.validate_json(given)
    if isinstance(request, ProofRequest):
        from edgeq.proof.prove import prove

        return prove(request).model_dump(mode="json")
    from edgeq.proof.answers import record_answers

    return record_answers(request).model_dump(mode="json")


if __name__ == "__main__":
    sys.exit(serve(perform))
