"""Open an untrusted file with llama.cpp in a separate process first, so that a crash stays there.

llama.cpp crashes on many damaged files, whatever is checked before. So a child opens a file, reads
and generates with it before this process opens it; a file that survived is remembered by its
content, and not tried again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.core import child
from edgeq.core.artifact import GGUF_FILE, Artifact
from edgeq.core.cursor import AGAIN
from edgeq.core.errors import EdgeqError, InvalidInput, Missing, Problem
from edgeq.core.kv_cache import KvType
from edgeq.core.units import GIB
from edgeq.formats import runtime_cache
from edgeq.formats.gguf.header import Header
from edgeq.formats.gguf.sanity import require_sane
from edgeq.quantize.ggml.llama_api import chosen_build

_SECONDS = 15.0  # of a processor, for a small file
_SLOWEST = 2 << 20  # bytes per second: 66 tokens are computed
_WAITING = 8  # times as long by the clock, on a busy machine
_STAGE = "tried"


def require_survivor(
    header: Header,
    adapter: Path | None,
    context: int | None,
    kv: KvType | None,
    artifact: Artifact | None,
) -> None:
    """Return if a process that used the file of `header` ended normally, now or earlier.

    Raises what opening it raised there, InvalidInput if it was killed by a signal or took too long.
    A process started by edgeq is such a process itself; a frozen application cannot start one.
    """
    path = header.path
    if child.is_child():
        return
    opened = {"context": context, "kv": kv}
    key = {"files": _identity(header, artifact), **opened, "runtime": chosen_build()}
    store = None
    with contextlib.suppress(InvalidInput):  # a cache that others can write remembers nothing
        store = runtime_cache.store()
        if store.find(_STAGE, key):
            return
    require_sane(header)
    if child.can_start():
        _try(header, adapter, opened)
    if store is not None:
        with contextlib.suppress(EdgeqError):  # it is tried again if nothing can be written
            store.stage(_STAGE, key, lambda _: None, describe=path.name)


def _identity(header: Header, artifact: Artifact | None) -> Any:
    """The identity of files: verified hashes, or else their places and times of change."""
    if artifact is not None and GGUF_FILE in artifact.files:
        return {name: record.sha256 for name, record in artifact.files.items()}
    return [[str(path.absolute()), *_state(path.stat())] for path in header.paths]


def _state(about: os.stat_result) -> tuple[int, ...]:
    return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


def _try(header: Header, adapter: Path | None, opened: Mapping[str, Any]) -> None:
    path, size = header.path, header.file_bytes
    seconds = _SECONDS + size / _SLOWEST
    memory = (1 if opened["context"] is None else 2) * GIB + 2 * size
    request = json.dumps([str(path), str(adapter or ""), opened, memory, seconds])
    command = child.command("edgeq.formats.gguf.trial_child", request)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WAITING * seconds)
    except subprocess.TimeoutExpired:
        raise _refusal(path, f"does not finish within {_WAITING * seconds:.0f} s") from None
    if done.returncode < 0:
        raise _refusal(path, f"is killed by {signal.Signals(-done.returncode).name}")
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
