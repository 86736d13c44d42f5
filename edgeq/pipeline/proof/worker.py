"""The process that runs originals, the only one with torch: `python -m` this module."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import TypeAdapter

from edgeq.core.imports import do_without
from edgeq.measure.worker import serve
from edgeq.models.original.network import offline
from edgeq.pipeline.proof.request import AnswersRequest, ProofRequest, SpeechRequest

_REQUESTS: TypeAdapter[ProofRequest | AnswersRequest | SpeechRequest] = TypeAdapter(
    ProofRequest | AnswersRequest | SpeechRequest
)


def perform(given: bytes) -> dict[str, Any]:
    """Perform a request; the reply is plain JSON. Raises EdgeqError."""
    offline()
    request = _REQUESTS.validate_json(given)
    if not (request.directory / "modules.json").is_file():
        do_without("sklearn", "scipy")  # sentence-transformers needs them
    if isinstance(request, ProofRequest):
        from edgeq.pipeline.proof.prove import prove

        return prove(request).model_dump(mode="json")
    if isinstance(request, SpeechRequest):
        from edgeq.pipeline.proof.speech_original import record_texts

        return record_texts(request).model_dump(mode="json")
    from edgeq.pipeline.proof.answers import record_answers

    return record_answers(request).model_dump(mode="json")


if __name__ == "__main__":
    sys.exit(serve(perform))
