"""The process in which the C library opens an audited file, so that a crash stays isolated.

python -m edgeq.pipeline.audit.child < request.json > reply.json
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeq.core import child
from edgeq.core.artifact import Frozen
from edgeq.core.errors import EdgeqError, Missing
from edgeq.core.units import GIB
from edgeq.formats.gguf.header import read_header
from edgeq.formats.language import LanguageModel, choose
from edgeq.pipeline.audit.plain import text, whole

STEP = "edgeq-step: "
"""Prefix of progress lines on standard error."""

_CONTEXT = 512
_LOOKED_AT = 64  # tokens that are run to check that logits come out


class Request(Frozen):
    """A request to one process about `file`.

    tokens: open it, tokenize `texts` and run some tokens. quality: compare it with `reference` on
    the file `text`; with `write_text`, on text that the reference itself first writes into that
    file.
    """

    work: Literal["tokens", "quality"]
    file: Path
    texts: tuple[str, ...] = ()
    reference: Path | None = None
    text: Path | None = None
    write_text: bool = False
    window: int = 0
    windows: int = 0


def tokens(request: Request) -> dict[str, Any]:
    """Return the runtime, the ids of every text with and without special tokens, and whether its
    logits are finite.
    """
    import edgeq

    header = read_header(request.file)
    trained = whole(header, f"{text(header, 'general.architecture')}.context_length")
    model = edgeq.load(request.file, context=min(trained or _CONTEXT, _CONTEXT))
    if not isinstance(model, LanguageModel):
        return {"runtime": model.runtime, "language_model": False}
    ids = [model.tokens(given, special=False) for given in request.texts]
    first = [token for part in ids for token in part][: min(_LOOKED_AT, model.context)]
    return {
        "runtime": model.runtime,
        "language_model": True,
        "ids": ids,
        "around": model.tokens("a"),
        "finite": bool(np.isfinite(model.logits(first or [0])).all()),
    }


def quality(request: Request) -> dict[str, Any]:
    """`edgeq.pipeline.compare.compare.Comparison` of file and reference, as plain data."""
    from edgeq.pipeline.compare import compare

    if request.reference is None or request.text is None:
        raise ValueError("a comparison needs a reference and a text")
    if request.write_text:
        _step(f"{request.reference.name} writes a text")
        model = compare.open_language_model(request.reference)
        # Text written token by token often has fewer tokens when it is tokenized again.
        wanted = math.ceil(1.25 * request.window * request.windows)
        request.text.write_text(own_text(model, wanted), encoding="utf-8")
        del model
    found = compare.compare(
        request.reference,
        request.file,
        request.text,
        window=request.window,
        windows=request.windows,
        progress=_step,
    )
    return found.model_dump(mode="json")


def own_text(model: LanguageModel, wanted: int) -> str:
    """Draw a text of about `wanted` tokens from the model at temperature 1; deterministic."""
    from edgeq.measure.same_tokens import beginning

    first = beginning(model)
    start = model.tokens("\n", special=False) if first is None else [first]
    rng = np.random.default_rng(0)
    pieces: list[bytes] = []
    while wanted > 0:
        scores = model.prefill(start)
        for _ in range(min(wanted, model.context - len(start))):
            wanted -= 1
            token = choose(scores, 1.0, rng)
            if token in model.end_tokens:
                break
            pieces.append(model.piece(token))
            scores = model.step(token)
        pieces.append(b"\n")
    return b"".join(pieces).decode("utf-8", "replace")


def _failure(error: EdgeqError) -> dict[str, Any]:
    """The error's message and kind; with an install command if only a package is missing."""
    from edgeq.measure.same_tokens import OtherTokens

    missing = isinstance(error, Missing)
    said = (f"{problem.where}: {problem.what}" for problem in error.problems)
    remedies = dict.fromkeys(problem.remedy for problem in error.problems if missing)
    return {
        "error": "; ".join([*said, *filter(None, remedies)]),
        "missing": missing,
        "other_tokens": isinstance(error, OtherTokens),
    }


def _step(step: str) -> None:
    print(f"{STEP}{step}", file=sys.stderr, flush=True)


def main() -> None:
    """Read one request from standard input, write one reply to standard output."""
    request = Request.model_validate_json(sys.stdin.buffer.read())
    # The C library may print to standard output, so the reply goes to a duplicate of that.
    reply_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if request.work == "tokens":
        # more than any honest file needs
        child.limit_memory(2 * GIB + 2 * request.file.stat().st_size)
    try:
        reply = {"tokens": tokens, "quality": quality}[request.work](request)
    except EdgeqError as error:
        reply = _failure(error)
    with reply_to:
        json.dump(reply, reply_to)


if __name__ == "__main__":
    main()
