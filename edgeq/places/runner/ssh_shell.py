"""A shell over SSH: all commands on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import ClassVar

import asyncssh

from edgeq.core.terms import Progress
from edgeq.devices.address import Address
from edgeq.places.link import Lost
from edgeq.places.place import Unreachable
from edgeq.places.runner.shell import Process, Shell
from edgeq.places.ssh import connect, start_process

_KEEPALIVE_SECONDS = 10.0
_END_SECONDS = 5.0  # the exit status arrives after the end of the output


class SshShell(Shell):
    """A shell on a POSIX machine, with the user's SSH settings as `SshPlace` has them."""

    _faults: ClassVar = (OSError, asyncssh.Error)

    def __init__(self, address: Address, progress: Progress) -> None:
        super().__init__(address, progress)
        self._connection: asyncssh.SSHClientConnection | None = None

    async def _start(self, command: str) -> Process:
        if self._connection is None:
            self._progress(f"{self.address.name}: connecting")
            self._connection = await connect(self.address, _KEEPALIVE_SECONDS)
            return await start_process(self._connection, self.address, command)
        try:
            return await start_process(self._connection, self.address, command)
        except Unreachable as error:
            raise Lost(error.problems[0].what) from None

    async def _end(self, process: Process) -> int:
        assert isinstance(process, asyncssh.SSHClientProcess)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait_closed(), _END_SECONDS)
        if process.exit_signal is not None:
            return -int(getattr(signal, f"SIG{process.exit_signal[0]}", 9))
        if process.exit_status is None:
            raise Lost("was cut")
        return process.exit_status

    async def _drop(self, process: Process) -> None:
        assert isinstance(process, asyncssh.SSHClientProcess)
        process.close()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
