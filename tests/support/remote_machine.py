"""A machine to reach that is this one: a home of its own, a user's home, processes to look for."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("asyncssh", reason="the extra 'ssh' is not installed")

from edgeq.devices.address import parse_address
from edgeq.places.ssh import SshPlace
from tests.support.ssh_server import SshServer

WAIT_SECONDS = 30.0


class Machine:
    """An SSH server whose commands have their home in `home`; `told` is all progress so far."""

    def __init__(self, folder: Path, home: Path | None = None, path: str | None = None) -> None:
        self.home = home or folder / "machine"
        self.home.mkdir(exist_ok=True)
        self.server = SshServer(self.home, folder / "user", path=path)
        self.told: list[str] = []
        self.on_progress: Callable[[str], None] = lambda _: None

    def place(self, options: str = "", **limits: float) -> SshPlace:
        """The machine as a place that gives up after little silence and does not linger."""
        address = parse_address(f"ssh://someone@127.0.0.1:{self.server.port}{options}")
        short = {"silence_seconds": 6.0, "linger_seconds": 1.0}
        return SshPlace(address, self._tell, **{**short, **limits})

    def left(self) -> list[str]:
        """Everything in its home, and every process that was started from there."""
        files = [
            Path(folder, name).relative_to(self.home).as_posix()
            for folder, folders, names in os.walk(self.home)  # unlike a glob, it bears removals
            for name in (*folders, *names)
        ]
        return sorted(files) + [command for _, command in self._running()]

    def processes(self, module: str = "") -> list[psutil.Process]:
        """Processes with this home whose command line holds `module`."""
        return [process for process, command in self._running() if module in command]

    def _running(self) -> list[tuple[psutil.Process, str]]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # it ends while it is looked at
                if process.environ().get("HOME") == str(self.home):
                    found.append((process, " ".join(process.cmdline())))
        return found

    def workers(self) -> list[psutil.Process]:
        """The processes of measuring passes."""
        return self.processes("edgeq.measure.worker")

    def agents(self) -> list[psutil.Process]:
        """The processes that wait there for what is asked."""
        found = self._running()
        return [process for process, command in found if "edgeq-python" in command]

    def _tell(self, message: str) -> None:
        self.told.append(message)
        self.on_progress(message)


class Started:
    """Something that runs in a thread; `result` gives its value or raises its error."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work, self._value = work, None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._value


def wait_for(find: Callable[[], Any]) -> Any:
    """What `find` gives once it is true."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if found := find():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


@contextlib.contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Iterator[Machine]:
    """A machine that the user of this process may log in to."""
    monkeypatch.setenv("HOME", str(folder / "user"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    machine = Machine(folder, **more)
    try:
        yield machine
    finally:
        machine.server.stop()
        for process in machine.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
