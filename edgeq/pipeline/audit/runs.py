"""Checks that run the file, each in a separate process whose failure is reported."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from edgeq.core import child
from edgeq.core.terms import Progress
from edgeq.pipeline.audit.child import STEP, Request

_SECONDS = {"tokens": 600.0, "quality": 4 * 3600.0}


class RunFailed(Exception):
    """A run without a result.

    missing: the only cause is a missing package. other_tokens: the file and its reference tokenize
    the text differently.
    """

    def __init__(self, reason: str, *, missing: bool = False, other_tokens: bool = False) -> None:
        super().__init__(reason)
        self.missing, self.other_tokens = missing, other_tokens


def ask(request: Request, progress: Progress) -> dict[str, Any]:
    """Run `request` in a fresh process and return its reply.

    Raises RunFailed with the cause: an error of edgeq, a signal, or a timeout.
    """
    said: list[str] = []
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(request.model_dump_json().encode())
        given.seek(0)
        command = child.command("edgeq.pipeline.audit.child")
        process = subprocess.Popen(command, stdin=given, stdout=output, stderr=subprocess.PIPE)
        assert process.stderr is not None
        listener = threading.Thread(target=_listen, args=(process.stderr, progress, said))
        listener.start()
        try:
            status = process.wait(_SECONDS[request.work])
        except subprocess.TimeoutExpired:
            limit = _SECONDS[request.work]
            raise RunFailed(f"it did not finish within {limit:g} s") from None
        finally:
            process.kill()
            process.wait()
            listener.join()
            process.stderr.close()
        output.seek(0)
        content = output.read()
    return _reply(status, content, said)


def _listen(stream: IO[bytes], progress: Progress, said: list[str]) -> None:
    for line in stream:
        text = line.decode(errors="replace").rstrip()
        if text.startswith(STEP):
            progress(text[len(STEP) :])
        else:
            said[:] = [*said[-20:], text]


def _reply(status: int, content: bytes, said: list[str]) -> dict[str, Any]:
    if status < 0:
        raise RunFailed(f"the process that ran it was killed by {signal.Signals(-status).name}")
    try:
        reply: dict[str, Any] = json.loads(content)
    except ValueError:
        reason = " ".join(" ".join(said).split()[-40:]) or "no reason given"
        raise RunFailed(f"the process that ran it ended with status {status}: {reason}") from None
    if "error" in reply:
        raise RunFailed(
            reply["error"], missing=reply["missing"], other_tokens=reply["other_tokens"]
        )
    return reply


def tokens_of(file: Path, texts: tuple[str, ...], progress: Progress) -> dict[str, Any]:
    """Open the file with llama.cpp: see `edgeq.pipeline.audit.child.tokens`. Raises RunFailed."""
    progress("open it with llama.cpp")
    return ask(Request(work="tokens", file=file.absolute(), texts=texts), progress)
