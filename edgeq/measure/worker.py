"""The fresh process of one measuring pass, see `edgeq.places.process.run_worker`.

One JSON `Request` on standard input, one JSON reply on standard output. Anything else that a
library prints goes to standard error. Exit status 2 if the request is wrong, 3 if something is not
installed: the reply then is a list of problems. Any other failure gives its reason on standard
error and another status.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import IO, Any

from pydantic import TypeAdapter

from edgeq.core.artifact import Artifact, read_record
from edgeq.core.errors import EdgeqError, NotComputed
from edgeq.core.tasks import task_of
from edgeq.formats.openers import opener
from edgeq.measure import sample_passes, text_passes
from edgeq.measure.replies import Reply
from edgeq.places.process import Request, Requests

_GIVEN: TypeAdapter[Request | Requests] = TypeAdapter(Request | Requests)
_Passes = Mapping[str, Callable[[Request], Reply]]
_SAMPLES: _Passes = {
    "latency": sample_passes.time_sample,
    "memory": sample_passes.watch_sample,
    "quality": sample_passes.answer_samples,
}
_TEXTS: _Passes = {
    "latency": text_passes.time_texts,
    "memory": text_passes.watch_text,
    "quality": text_passes.judge_text,
}


def perform(request: Request) -> dict[str, Any]:
    """Do one pass in this process; the reply is a `Reply` in plain JSON. Raises EdgeqError."""
    artifact = read_record(request.artifact)
    _import_runtime(artifact)
    passes = _TEXTS if task_of(artifact.task).generates else _SAMPLES
    with warnings.catch_warnings(record=True) as caught:
        reply = passes[request.work](request)
    said = tuple(" ".join(str(warning.message).split()) for warning in caught)
    return reply.model_copy(update={"warnings": said}).model_dump(mode="json")


def _import_runtime(artifact: Artifact) -> None:
    """Load the runtime before anything is measured, to separate it from the model."""
    opener(artifact.format).import_runtime(artifact.task)


def _only_reply_on_stdout() -> IO[str]:
    """Reserve standard output for the reply; from now on, C code prints to standard error."""
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return reply


def serve(perform: Callable[[bytes], dict[str, Any]]) -> int:
    """Read a request, do it, write the reply; returns the exit status."""
    reply = _only_reply_on_stdout()
    try:
        result = perform(sys.stdin.buffer.read())
    except NotComputed as error:
        print(error, file=sys.stderr)
        return 1
    except EdgeqError as error:
        with reply:
            json.dump([dataclasses.asdict(problem) for problem in error.problems], reply)
        return error.exit_code
    with reply:
        json.dump(result, reply)
    return 0


def answer(given: bytes) -> dict[str, Any]:
    """The reply to a `Request`, or to the `Requests` in one process."""
    request = _GIVEN.validate_json(given)
    if isinstance(request, Requests):
        return {"replies": [perform(each) for each in request.requests]}
    return perform(request)


def main() -> int:
    """Run the measuring passes given on standard input; returns the exit status."""
    return serve(answer)


if __name__ == "__main__":
    sys.exit(main())
