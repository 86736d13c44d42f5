"""A command and all that it starts, told from any other process by a mark in the environment."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

_MARK = "EDGEQ_TEST_FAMILY"
_PATIENCE_SECONDS = 10.0


class Family:
    """A process that was started with `command`, and its descendants, orphans as well."""

    def __init__(self, command: Sequence[str], cwd: Path, **environment: str) -> None:
        self._mark = secrets.token_hex(8)
        env = {**os.environ, **environment, _MARK: self._mark}
        nothing = subprocess.DEVNULL
        self.parent = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=nothing, stdout=nothing, stderr=nothing
        )

    def others(self) -> list[psutil.Process]:
        """Every process of the family but the parent."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # it ends while it is looked at
                marked = process.environ().get(_MARK) == self._mark
                if marked and process.pid != self.parent.pid:
                    found.append(process)
        return found

    def cpu_seconds(self) -> float:
        """What the parent and its descendants have taken so far; 0 once the parent has ended."""
        try:
            parent = psutil.Process(self.parent.pid)
            own = parent.cpu_times()
            found = own.user + own.system + own.children_user + own.children_system
            for process in parent.children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it ends while it is looked at
                    found += sum(process.cpu_times()[:2])
        except psutil.Error:
            return 0.0
        return float(found)

    def kill_parent(self) -> list[str]:
        """Kill the parent alone; the command lines of those that outlive it by seconds."""
        self.parent.kill()
        self.parent.wait()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (left := self.others()) and time.monotonic() < deadline:
            time.sleep(0.02)
        found = []
        for process in left:
            with contextlib.suppress(psutil.Error):
                found.append(" ".join(process.cmdline()))
                process.kill()
        return found
