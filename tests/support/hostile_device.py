"""A device that means harm: a real SSH server whose agent answers as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncssh

from edgeq.places import needs
from edgeq.places.agent_wire import pack
from tests.support.ssh_server import SshServer

VERSIONS = {
    "filelock": "3.15",
    "numpy": "2.0",
    "onnxruntime": "1.31",
    "platformdirs": "4.3",
    "psutil": "6.0",
    "pydantic": "2.8",
    "tokenizers": "0.22",
}
GREETING = {
    "python": "3.11.2",
    "executable": "/usr/bin/python3",
    "packages": dict.fromkeys([*needs.PACKAGES, *needs.LLAMAS]) | VERSIONS,
    "managed": False,
    "system": "Linux 6.1 x86_64",
    "home": "/home/someone",
    "room": "/home/someone/.cache/edgeq/reach/1",
}
Reply = Callable[[dict[str, Any]], AsyncIterator[bytes]]
"""What comes back for a message with this header: bytes, with any pause and without any end."""


class HostileDevice(SshServer):
    """`replies` by operation take the place of an honest agent's; `login` comes first of all."""

    def __init__(self, home: Path, user_home: Path) -> None:
        self.be_honest()
        super().__init__(home, user_home)

    def be_honest(self) -> None:
        """Forget what it was told to do."""
        self.replies: dict[str, Reply] = {}
        self.login, self.errors = _greets, nothing

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        with contextlib.suppress(asyncssh.Error, OSError, asyncio.IncompleteReadError, EOFError):
            async for piece in self.errors({}):
                await _send(process.stderr, piece)
            await _write(process, self.login({}))
            size = int(await process.stdin.readline())
            await process.stdin.readexactly(size)
            while True:
                header = await _message(process)
                if header["op"] == "beat":
                    continue
                if header["op"] == "leave":
                    break
                reply = self.replies.get(header["op"]) or _HONEST[header["op"]]
                await _write(process, reply(header))
        with contextlib.suppress(asyncssh.Error, OSError):
            process.exit(0)


def once(*pieces: bytes) -> Reply:
    """These bytes."""

    async def reply(_: dict[str, Any]) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return reply


def forever(piece: bytes) -> Reply:
    """The same bytes again and again."""

    async def reply(_: dict[str, Any]) -> AsyncIterator[bytes]:
        while True:
            yield piece

    return reply


def answers(**header: Any) -> Reply:
    """A message with these fields."""
    return once(pack(header))


def raw(header: bytes) -> bytes:
    """A message whose header is these bytes."""
    return len(header).to_bytes(4, "big") + header


nothing = once()
_greets = once(b"edgeq-python 3.11.2 /usr/bin/python3\n")


async def _have(header: dict[str, Any]) -> AsyncIterator[bytes]:
    yield pack({"have": dict.fromkeys(header["files"]), "free": 1 << 40})


async def _run(header: dict[str, Any]) -> AsyncIterator[bytes]:
    yield pack({"status": 0, "output": json.dumps({"op": header["module"]}), "errors": ""})


_HONEST: dict[str, Reply] = {
    "hello": answers(**GREETING),
    "have": _have,
    "put": answers(ok=True),
    "unpack": answers(ok=True),
    "lay": answers(path="/home/someone/runs/1"),
    "run": _run,
    "drop": answers(ok=True),
    "load": answers(load_average=0.5),
    "get": answers(sha256=""),
}


async def _write(process: asyncssh.SSHServerProcess[bytes], reply: AsyncIterator[bytes]) -> None:
    async for piece in reply:
        await _send(process.stdout, piece)


async def _send(stream: asyncssh.SSHWriter[bytes], piece: bytes) -> None:
    stream.write(piece)
    await stream.drain()
    await asyncio.sleep(0)  # writing to what is closed neither waits nor fails
    if stream.is_closing() or stream.channel.get_connection().is_closed():
        raise EOFError


async def _message(process: asyncssh.SSHServerProcess[bytes]) -> dict[str, Any]:
    size = int.from_bytes(await process.stdin.readexactly(4), "big")
    header: dict[str, Any] = json.loads(await process.stdin.readexactly(size))
    await process.stdin.readexactly(header["size"])
    return header
