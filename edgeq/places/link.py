"""One connection to an agent: requests, answers, and a bounded wait for everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from edgeq.places.agent_wire import pack
from edgeq.places.file_manifest import agent_source

_T = TypeVar("_T")
PATIENCE_SECONDS = 120.0
"""Timeout of answers that need no long work; the agent's beats do not count."""
_GREETING = re.compile(rb"edgeq-python (\d+)\.(\d+)\.(\d+) (.*)\n$")
_NOISE = 1 << 16  # bytes that a login may write before the agent's first word
_LINE = 4096
_PIECE = 1 << 14  # bytes
_LARGEST_HEADER = 8 << 20  # bytes; what a process wrote is in there
_LARGEST_PAYLOAD = 1 << 20
_MOST_WORDS = 1 << 16  # bytes of standard error that are read
_WORDS_SECONDS = 2.0
_MOST_WAITING = 8  # messages that nobody has taken yet
_BEATS_AT_ONCE, _BEATS_A_SECOND = 100, 10  # between two answers; an agent sends one in seconds
# Any Python can run this much, and reports its version first.
_STARTER = """
import sys
sys.path[:] = [place for place in sys.path if place]
w = sys.stdout
w.write("edgeq-python %d.%d.%d %s\\n" % (sys.version_info[:3] + (sys.executable,)))
w.flush()
import json, types
f = sys.stdin.buffer
size = f.readline()
if size:
    for name, text in json.loads(f.read(int(size)).decode()):
        m = sys.modules[name] = types.ModuleType(name)
        exec(compile(text, name, "exec"), m.__dict__)
    m.main()
"""


class Lost(Exception):
    """The connection is lost; the message says how that was noticed."""


class NoPython(Exception):
    """The other side started no Python, or one that is too old: its version and path, and the
    output.
    """

    def __init__(self, found: str, said: str) -> None:
        super().__init__(found, said)
        self.found, self.said = found, said


class Channel(Protocol):
    """The standard streams of a command on another machine; its methods raise Lost."""

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes of its output."""

    async def write(self, data: bytes) -> None:
        """Write `data`; returns once more can be written."""

    async def last_words(self) -> str:
        """Its standard error, in one line; called once its output has ended."""

    def abort(self) -> None:
        """Close the connection at once; the command sees the end of its input."""


def start_command(python: str | None) -> str:
    """The command, for a POSIX shell, that starts an agent with `python` or the first one there."""
    starter = shlex.quote(_STARTER)
    if python is not None:
        return f"exec {shlex.quote(python)} -c {starter}"
    return (
        f'for python in python3 python; do command -v "$python" >/dev/null 2>&1 && '
        f'exec "$python" -c {starter}; done; '
        "echo 'neither python3 nor python is on its PATH' >&2; exit 127"
    )


class Link:
    """Sends requests to an agent one at a time; once lost, it stays lost.

    silence: seconds without a byte after which the other side counts as gone.
    """

    def __init__(self, channel: Channel, silence: float) -> None:
        self._channel, self._silence = channel, silence
        self._replies: asyncio.Queue[tuple[dict[str, Any], bytes] | None] = asyncio.Queue(
            _MOST_WAITING
        )
        self._beats, self._since = 0, time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._writing = asyncio.Lock()
        self._lost = ""

    async def greet(self, hello: dict[str, Any]) -> dict[str, Any]:
        """Start the agent and send `hello`; returns its answer. Raises NoPython and Lost."""
        await _within(PATIENCE_SECONDS, "did not start Python", self._await_python())
        source = agent_source()
        await self._send(b"%d\n" % len(source) + source)
        self._tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._beat())]
        header, _ = await self.ask({"op": "hello", **hello})
        return header

    async def ask(
        self, header: dict[str, Any], payload: bytes = b"", patience: float = PATIENCE_SECONDS
    ) -> tuple[dict[str, Any], bytes]:
        """The answer to a message. Raises Lost, also after `patience` seconds without one."""
        if self._lost:
            raise Lost(self._lost)
        try:
            if not self._replies.empty():
                raise Lost("answered what it was not asked")
            await self._send(pack(header, payload), patience)
            return await self.next(patience)
        except BaseException as error:  # also after a cancelled request: its answer may still come
            self._fail(str(error) or "was interrupted")
            raise

    async def next(self, patience: float = PATIENCE_SECONDS) -> tuple[dict[str, Any], bytes]:
        """One more answer to the same message."""
        reply = await _within(patience, "did not answer", self._replies.get())
        if reply is None:
            raise Lost(self._lost)
        return reply

    async def leave(self, patience: float) -> None:
        """Tell the agent to remove everything and end, and wait until it has."""
        if self._tasks:
            with contextlib.suppress(Lost):
                await self._send(pack({"op": "leave"}), patience)
            self._fail("was left")
            # Receiving ends with its stream, whatever it answers until then.
            await asyncio.wait(self._tasks[:1], timeout=patience)
        self.close()

    def close(self) -> None:
        """End the connection; the agent notices."""
        self._fail("was closed")
        self._channel.abort()
        for task in self._tasks:
            task.cancel()

    @property
    def lost(self) -> bool:
        """Whether no more requests are possible."""
        return bool(self._lost)

    async def _await_python(self) -> None:
        line = b""
        for _ in range(_NOISE):
            try:
                line += await self._channel.read(1)
            except Lost as error:
                raise NoPython("", await self._channel.last_words() or str(error)) from None
            if found := _GREETING.search(line):
                break
            line = b"" if line.endswith(b"\n") else line[-_LINE:]
        else:
            raise NoPython("", "its login prints endlessly")
        version = tuple(int(part) for part in found.groups()[:3])
        if version < (3, 10):
            path = found[4].decode(errors="replace")
            raise NoPython(f"{'.'.join(map(str, version))} ({path})", "")

    async def _send(self, message: bytes, patience: float = PATIENCE_SECONDS) -> None:
        async with self._writing:
            await _within(patience, "stopped reading", self._channel.write(message))

    async def _pump(self) -> None:
        """Receive messages; beats, and what nobody waits for, only show that it is alive."""
        try:
            while True:
                header, payload = await self._message()
                if header.get("op") == "beat" or self._lost:
                    self._count_beat()
                else:
                    await self._replies.put((header, payload))
                    self._beats, self._since = 0, time.monotonic()
        except Lost as error:
            self._fail(str(error))
            self._channel.abort()

    async def _message(self) -> tuple[dict[str, Any], bytes]:
        header = await self._header()
        size = header.get("size")
        largest = 0 if header.get("op") == "beat" else _LARGEST_PAYLOAD
        if type(size) is not int or not 0 <= size <= largest:
            raise Lost("announced a message of a size that edgeq's agent never sends")
        return header, await self._read(size)

    async def _header(self) -> dict[str, Any]:
        size = int.from_bytes(await self._read(4), "big")
        if size > _LARGEST_HEADER:
            raise Lost("announced a message of a size that edgeq's agent never sends")
        try:
            header = json.loads(await self._read(size))
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            raise Lost("sent something that is not a message")
        return header

    def _count_beat(self) -> None:
        self._beats += 1
        seconds = time.monotonic() - self._since
        if self._beats > _BEATS_AT_ONCE + _BEATS_A_SECOND * seconds:
            raise Lost("talked without end and said nothing")

    async def _read(self, size: int) -> bytes:
        """In pieces: a slow connection is not a silent one."""
        words = f"was silent for {self._silence:g} s"
        pieces = []
        while size:
            piece = await _within(self._silence, words, self._channel.read(min(size, _PIECE)))
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    async def _beat(self) -> None:
        with contextlib.suppress(Lost):
            while True:
                await asyncio.sleep(self._silence / 6)
                await self._send(pack({"op": "beat"}))

    def _fail(self, reason: str) -> None:
        self._lost = self._lost or reason
        while not self._replies.empty():
            self._replies.get_nowait()
        self._replies.put_nowait(None)


async def words_of(read: Callable[[], Awaitable[bytes]]) -> str:
    """The standard error of a command in one line: as much as arrives soon, within limits."""
    said = b""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        deadline = time.monotonic() + _WORDS_SECONDS
        while len(said) < _MOST_WORDS and (left := deadline - time.monotonic()) > 0:
            piece = await asyncio.wait_for(read(), left)
            if not piece:
                break
            said += piece
    return " ".join(said.decode(errors="replace").split()[-60:])


async def _within(seconds: float, words: str, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`; raises Lost(`words`) if it takes longer than `seconds`."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:  # not the builtin one in Python 3.10
        raise Lost(words) from None
