"""A command in a terminal: what it prints where somebody looks on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def edgeq_in_terminal(*arguments: str | Path, cwd: Path, **more: str) -> str:
    """All that `edgeq` prints in a terminal, see `in_terminal`."""
    code = "from edgeq.cli.main import main; main()"
    return in_terminal(code, [*map(str, arguments)], cwd=cwd, **more).decode()


def in_terminal(code: str, arguments: Sequence[str] = (), *, cwd: Path, **more: str) -> bytes:
    """All that Python's `code` prints in a terminal, standard output and error as they come.

    more: variables of its environment, which has neither NO_COLOR nor FORCE_COLOR otherwise.
    """
    import pty

    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**environment, **more},
    ):
        os.close(theirs)
        read = b""
        with contextlib.suppress(OSError):  # the other end closes
            while piece := os.read(ours, 1 << 16):
                read += piece
    os.close(ours)
    return read
