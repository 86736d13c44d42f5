"""A POSIX machine reached by SSH, with the keys, known hosts and settings of the user's OpenSSH."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket

import asyncssh

from edgeq.core.errors import Problem
from edgeq.devices.address import Address
from edgeq.places.link import Channel, Lost, words_of
from edgeq.places.place import Unreachable
from edgeq.places.remote import RemotePlace

CONNECT_SECONDS = 15.0
LOGIN_SECONDS = 30.0
_FAULTS = (asyncssh.Error, OSError, asyncio.TimeoutError, ValueError)


class SshPlace(RemotePlace):
    """Another machine by SSH. It needs a POSIX shell and Python, but no SFTP.

    There is no password prompt: the user's keys, the agent and `~/.ssh/config` must suffice. A host
    key that is not in `~/.ssh/known_hosts` is refused.
    """

    async def _open(self, command: str) -> Channel:
        connection = await connect(self._address)
        try:
            process = await start_process(connection, self._address, command)
        except BaseException:
            connection.abort()
            raise
        return _SshChannel(connection, process)


async def connect(
    address: Address, keepalive_seconds: float | None = None
) -> asyncssh.SSHClientConnection:
    """Log in, with the user's settings; raises Unreachable.

    keepalive_seconds: a connection without an answer for three times as long counts as lost.
    """
    named = {
        "username": address.user,
        "port": address.port,
        "keepalive_interval": keepalive_seconds,
    }
    given = {name: value for name, value in named.items() if value is not None}
    try:
        return await asyncssh.connect(
            address.host or "",
            connect_timeout=CONNECT_SECONDS,
            login_timeout=LOGIN_SECONDS,
            **given,
        )
    except _FAULTS as error:
        raise _unreachable(address, error) from None


async def start_process(
    connection: asyncssh.SSHClientConnection, address: Address, command: str
) -> asyncssh.SSHClientProcess[bytes]:
    """Start a command for a POSIX shell; raises Unreachable."""
    # A login shell may be of any kind; every machine has sh.
    starting = connection.create_process(f"exec sh -c {shlex.quote(command)}", encoding=None)
    try:
        return await asyncio.wait_for(starting, CONNECT_SECONDS)
    except _FAULTS as error:
        raise _unreachable(address, error) from None


class _SshChannel:
    """A command on the other machine, on its own connection."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, process: asyncssh.SSHClientProcess[bytes]
    ) -> None:
        self._connection, self._process = connection, process

    async def read(self, size: int) -> bytes:
        try:
            return await self._process.stdout.readexactly(size) if size else b""
        except (asyncio.IncompleteReadError, asyncssh.Error, OSError):
            raise Lost(await self._ending()) from None

    async def write(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (asyncssh.Error, OSError):
            raise Lost(await self._ending()) from None

    async def last_words(self) -> str:
        try:
            return await words_of(lambda: self._process.stderr.read(4096))
        except asyncssh.Error:
            return ""

    def abort(self) -> None:
        self._connection.abort()

    async def _ending(self) -> str:
        """How the command ended: the exit status arrives after the end of its output."""
        with contextlib.suppress(asyncssh.Error, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait_closed(), 1)
        if self._process.exit_signal is not None:
            return f"ended: edgeq's agent there was killed by SIG{self._process.exit_signal[0]}"
        if self._process.returncode is not None:
            return f"ended: edgeq's agent there ended with status {self._process.returncode}"
        return "was cut"


def _unreachable(address: Address, error: Exception) -> Unreachable:
    """The reason why connecting failed, and the remedy."""
    login = f"{address.user}@{address.host}" if address.user else str(address.host)
    port = f"-p {address.port} " if address.port else ""
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        what = "its host key differs from the one in ~/.ssh/known_hosts, or is not there yet"
        remedy = f"log in once and compare the displayed fingerprint: ssh {port}{login}"
    elif isinstance(error, asyncssh.PermissionDenied):
        what = "it accepts none of your SSH keys"
        remedy = f"let it accept one: ssh-copy-id {port}{login}; "
        remedy += "a key with a passphrase must be unlocked first: ssh-add"
    elif isinstance(error, socket.gaierror):
        what = f"the host name {address.host!r} cannot be resolved"
        remedy = "check the spelling, or write its IP address"
    elif isinstance(error, ConnectionRefusedError):
        what = "the machine refuses the connection"
        remedy = "start its SSH server, or name the port it listens on: ssh://user@host:port"
    elif isinstance(error, asyncio.TimeoutError | TimeoutError):
        what = f"no answer within {CONNECT_SECONDS:g} s"
        remedy = "check that it is switched on and on this network"
    else:
        what = f"cannot be connected to: {error or type(error).__name__}"
        remedy = f"check that this works: ssh {port}{login}"
    return Unreachable(Problem(address.name, what, remedy))
