"""The process in which an audited file meets the C library: what crashes, crashes alone.

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
"""What a line of standard error begins with that says how far the work is."""

_CONTEXT = 512
_LOOKED_AT = 64  # tokens that are run to see whether logits come out


class Request(Frozen):
    """What one process shall do with `file`.

    tokens: open it, cut `texts` into tokens and run some. quality: compare it with `reference` on
    the file `text`; with `write_text`, on what the reference itself writes into that file first.
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
    """What runs the file, the ids of every text with and without special tokens, and whether its
    logits are numbers.
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
    """`edgeq.pipeline.compare.compare.Comparison` of the file with its reference, as plain data."""
    from edgeq.pipeline.compare import compare

    if request.reference is None or request.text is None:
        raise ValueError("a comparison needs a reference and a text")
    if request.write_text:
        _step(f"{request.reference.name} writes a text")
        model = compare.open_language_model(request.reference)
        # Written token by token, a text is often cut into fewer when it is read again.
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
    """About `wanted` tokens drawn from the model at temperature 1; always the same text."""
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
    """What went wrong, and its sort; with what to install, where that is all there is to do."""
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
    """One request on standard input, one reply on standard output."""
    request = Request.model_validate_json(sys.stdin.buffer.read())
    # The C library may print; the reply keeps standard output to itself.
    reply_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if request.work == "tokens":
        # More than any honest file needs.
        child.limit_memory(2 * GIB + 2 * request.file.stat().st_size)
    try:
        reply = {"tokens": tokens, "quality": quality}[request.work](request)
    except EdgeqError as error:
        reply = _failure(error)
    with reply_to:
        json.dump(reply, reply_to)


if __name__ == "__main__":
    main()
