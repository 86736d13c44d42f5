"""The process that opens a GGUF file first: a crash of llama.cpp ends only this process."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from edgeq.core import child
from edgeq.core.errors import EdgeqError
from edgeq.formats.gguf.model import GgufEncoder, open_files
from edgeq.formats.hard_texts import HARD_TEXTS
from edgeq.formats.language import LanguageModel

_LOOKED_AT = 64  # tokens to run


def _use(path: Path, adapter: Path | None, opened: dict[str, Any]) -> None:
    """Open a model as `edgeq.load` does, and use it in every way a caller can."""
    model = open_files(path, adapter, threads=1, **opened)
    if isinstance(model, GgufEncoder):
        model.embed(["a", *islice(HARD_TEXTS, 8)])
        return
    assert isinstance(model, LanguageModel)
    ids = list(islice(_ids(model), min(_LOOKED_AT, model.context)))
    for token in range(model.vocabulary):
        model.piece(token)
    model.logits(ids or [0])
    list(model.generate("a", max_tokens=2))


def _ids(model: Any) -> Iterator[int]:
    for text in HARD_TEXTS:
        yield from model.tokens(text)


def main(request: str) -> int:
    """Use one file; returns the exit status. Problems go to standard output, as JSON."""
    path, adapter, opened, memory, seconds = json.loads(request)
    # The C library may print to standard output, so the reply goes to a duplicate of it.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as reply:
        os.dup2(2, 1)
        child.limit_memory(memory)
        child.limit_seconds(seconds)
        try:
            _use(Path(path), Path(adapter) if adapter else None, opened)
        except EdgeqError as error:
            json.dump([dataclasses.asdict(problem) for problem in error.problems], reply)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
