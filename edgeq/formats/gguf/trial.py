"""A stranger's file meets llama.cpp in a process of its own first: what aborts, aborts there.

llama.cpp ends its process on many damaged files, whatever is checked before. So a file is opened,
read with and written with by a child before this process opens it; one that survived is remembered
by its content, and not tried again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from edgeq.core import child
from edgeq.core.artifact import GGUF_FILE, Artifact
from edgeq.core.cursor import AGAIN
from edgeq.core.errors import EdgeqError, InvalidInput, Missing, Problem
from edgeq.core.units import GIB
from edgeq.formats import runtime_cache
from edgeq.formats.gguf.hard_texts import HARD_TEXTS
from edgeq.formats.gguf.header import Header
from edgeq.formats.gguf.sanity import require_sane
from edgeq.quantize.ggml.llama_api import chosen_build

_SECONDS = 120.0
_SLOWEST_DISK = 50 << 20  # bytes per second
_STAGE = "tried"
_LOOKED_AT = 64  # tokens that are run


def require_survivor(
    header: Header, adapter: Path | None, context: int | None, artifact: Artifact | None
) -> None:
    """Return if a process that used the file of `header` came to a good end, now or before.

    Raises what opening it raised there, InvalidInput if it was ended by a signal or took too long.
    A process that edgeq started is such a process itself; a frozen application cannot start one.
    """
    path = header.path
    if child.is_child():
        return
    key = {"files": _identity(path, artifact), "context": context, "runtime": chosen_build()}
    store = None
    with contextlib.suppress(InvalidInput):  # a cache that others can write remembers nothing
        store = runtime_cache.store()
        if store.find(_STAGE, key):
            return
    require_sane(header)
    if child.can_start():
        _try(path, adapter, context)
    if store is not None:
        with contextlib.suppress(EdgeqError):  # it is tried again where nothing can be written
            store.stage(_STAGE, key, lambda _: None, describe=path.name)


def _identity(path: Path, artifact: Artifact | None) -> Any:
    """What tells a file from any other: its verified hashes, or else where and when it changed."""
    if artifact is not None and GGUF_FILE in artifact.files:
        return {name: record.sha256 for name, record in artifact.files.items()}
    about = path.stat()
    state = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return [str(path.absolute()), *state]


def _try(path: Path, adapter: Path | None, context: int | None) -> None:
    size = path.stat().st_size
    request = json.dumps([str(path), str(adapter or ""), context, 2 * GIB + 2 * size])
    command = child.command("edgeq.formats.gguf.trial", request)
    seconds = _SECONDS + size / _SLOWEST_DISK
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise _refusal(path, f"does not finish within {seconds:.0f} s") from None
    if done.returncode < 0:
        raise _refusal(path, f"is ended by {signal.Signals(-done.returncode).name}")
    if done.returncode == 0:
        return
    problems = [Problem(**problem) for problem in _reply(done.stdout)]
    if problems:
        raise (Missing if done.returncode == Missing.exit_code else InvalidInput)(problems)
    reason = " ".join(done.stderr.split()[-30:]) or "it gave no reason"
    raise _refusal(path, f"ends with status {done.returncode}: {reason}")


def _reply(text: str) -> list[dict[str, str]]:
    try:
        reply: list[dict[str, str]] = json.loads(text)
    except ValueError:
        return []
    return reply


def _refusal(path: Path, what: str) -> InvalidInput:
    words = f"a process that opens it with {chosen_build()} {what}"
    return InvalidInput(Problem(str(path), words, AGAIN))


def _use(path: Path, adapter: Path | None, context: int | None) -> None:
    """Open a model as `edgeq.load` does, and do with it all that a caller can."""
    from edgeq.formats.gguf.model import GgufEncoder, open_files
    from edgeq.formats.language import LanguageModel

    model = open_files(path, adapter, threads=1, context=context)
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
    """Use one file; the exit status. Problems go to standard output, as JSON."""
    path, adapter, context, memory = json.loads(request)
    # The C library may print; the reply keeps standard output to itself.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as reply:
        os.dup2(2, 1)
        child.limit_memory(memory)
        try:
            _use(Path(path), Path(adapter) if adapter else None, context)
        except EdgeqError as error:
            json.dump([dataclasses.asdict(problem) for problem in error.problems], reply)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
