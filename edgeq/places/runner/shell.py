"""Commands and files through a POSIX shell on another machine, over ssh or adb.

What the other side prints is limited in size and time, and what its login prints before a command
begins is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import shlex
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Protocol, TypeVar

from edgeq.core.errors import Missing, Problem
from edgeq.core.files import replacing
from edgeq.core.terms import Progress
from edgeq.core.units import format_bytes
from edgeq.devices.address import Address
from edgeq.places.adb import start_process
from edgeq.places.background import Background
from edgeq.places.link import Lost

_SECONDS = 120.0  # for a command without long work
_SLOWEST_LINE = 1 << 16  # bytes per second
_BEGIN = b"edgeq-shell\n"
_NOISE = 1 << 16  # bytes that a login may print first
_LINE = 4096
_LARGEST_OUTPUT = 8 << 20
_LARGEST_FILE = 8 << 30
_KEPT_ERRORS = 1 << 16
_PIECE = 1 << 18
_LEAVE_SECONDS = 30.0
_T = TypeVar("_T")


class Ended(NamedTuple):
    """How a command ended; the status is negative for a signal."""

    status: int
    output: str
    errors: str

    @property
    def said(self) -> str:
        """What it said, in one line."""
        return " ".join((self.errors or self.output).split())[:200] or "no reason given"


class Process(Protocol):
    """The streams of a command, as asyncio and asyncssh both have them."""

    @property
    def stdin(self) -> Any: ...
    @property
    def stdout(self) -> Any: ...
    @property
    def stderr(self) -> Any: ...


class Shell(ABC):
    """A shell on another machine, connected on demand; one thread at a time.

    Methods raise Unreachable, Lost if the connection ends meanwhile or is silent, and Missing for
    what no shell prints.
    """

    default_directory = ""
    """Where temporary directories go; empty for the directory that commands start in."""
    _faults: ClassVar[tuple[type[Exception], ...]] = (OSError,)

    def __init__(self, address: Address, progress: Progress) -> None:
        self.address, self._progress = address, progress
        self._background: Background | None = None
        self._kept: Process | None = None

    @abstractmethod
    async def _start(self, command: str) -> Process: ...

    @abstractmethod
    async def _end(self, process: Process) -> int:
        """The status of a process, negative for a signal; raises Lost if the connection ended."""

    @abstractmethod
    async def _drop(self, process: Process) -> None:
        """Let go of a process, which has ended unless something went wrong."""

    async def _disconnect(self) -> None:  # noqa: B027  adb has no connection of its own
        """End what outlives single commands."""

    def run(self, command: str, seconds: float = _SECONDS) -> Ended:
        """Run a command that reads nothing."""
        return self._call(self._captured(command, seconds))

    def send(self, path: Path, there: str) -> None:
        """Copy the file `path`; raises Missing if it cannot be written there, e.g. a full disk."""
        size, to = path.stat().st_size, shlex.quote(there)
        command = f"cat > {to} && wc -c < {to}"
        ended = self._call(self._captured(command, _SECONDS + size / _SLOWEST_LINE, path))
        if ended.status != 0 or ended.output.strip() != str(size):
            raise self.refusal(f"{there} cannot be written: {ended.said}")

    def fetch(self, there: str, path: Path) -> None:
        """Copy the file `there` to `path`, atomically; raises Missing for one that is too large."""
        quoted = shlex.quote(there)
        counted = self.run(f"wc -c < {quoted}")
        digits = counted.output.strip()
        size = int(digits) if digits.isdecimal() and len(digits) < 20 else _LARGEST_FILE + 1
        if counted.status != 0 or size > _LARGEST_FILE:
            what = f"{there} cannot be copied from there: {counted.said}"
            raise Missing(Problem(self.address.name, what, "evaluate fewer samples"))
        with replacing(path) as partial, partial.open("wb") as file:
            seconds = _SECONDS + size / _SLOWEST_LINE
            self._call(self._talk(f"cat {quoted}", seconds, file, size))
            if file.tell() != size:
                what = f"{there} was damaged in transfer"
                raise Missing(Problem(self.address.name, what, "check again"))

    def keep(self, command: str) -> str:
        """Start a command that lasts until `release`, and its input with it; the line it prints.

        Its input ends with the connection, too. Raises Missing if it ends without a line.
        """
        return self._call(self._keep(command))

    def release(self) -> bool:
        """End the kept command's input and disconnect; returns whether the command ended well."""
        background, self._background = self._background, None
        if background is None:
            return True
        try:
            return background.call(self._release())
        finally:
            background.stop()

    def refusal(self, what: str) -> Missing:
        """The error for a directory there that does not do."""
        remedy = f"name a writable directory with room: {self.address.name}?directory=/path/there"
        return Missing(Problem(self.address.name, what, remedy))

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._background is None:
            self._background = Background()
        return self._background.call(work)

    async def _captured(self, command: str, seconds: float, given: Path | None = None) -> Ended:
        output = io.BytesIO()
        ended = await self._talk(command, seconds, output, _LARGEST_OUTPUT, given)
        return ended._replace(output=output.getvalue().decode(errors="replace"))

    async def _talk(
        self, command: str, seconds: float, to: BinaryIO, most: int, given: Path | None = None
    ) -> Ended:
        """Run a command with the file `given` as its input; its output goes `to` a file."""
        process = await self._begin(command)
        feeding = asyncio.create_task(self._feed(process, given))
        errors = asyncio.create_task(_tail(process.stderr))
        try:
            began = await asyncio.wait_for(self._receive(process, to, most), seconds)
            said = await asyncio.wait_for(errors, _SECONDS)
            ended = Ended(await self._end(process), "", said)
        except asyncio.TimeoutError:
            raise Lost(f"gave no answer within {seconds:.0f} s") from None
        except self._faults:
            raise Lost("was cut") from None
        finally:
            feeding.cancel()
            errors.cancel()
            await self._drop(process)
        if not began:
            raise self._no_shell(ended.said)
        return ended

    async def _begin(self, command: str) -> Process:
        return await self._start(f"echo {_BEGIN.decode().strip()}; {command}")

    async def _feed(self, process: Process, given: Path | None) -> None:
        """Write the file, if there is one, and end the input; a command need not read it all."""
        with contextlib.suppress(*self._faults):
            if given is not None:
                left = given.stat().st_size
                with given.open("rb") as file:
                    while piece := file.read(_PIECE):
                        self._progress(
                            f"{self.address.name}: copying {given.name}, {format_bytes(left)} to go"
                        )
                        process.stdin.write(piece)
                        await process.stdin.drain()
                        left -= len(piece)
            process.stdin.write_eof()

    async def _receive(self, process: Process, to: BinaryIO, most: int) -> bool:
        """Write the output to a file; False if no command began. Raises Missing if too large."""
        first = await self._after_noise(process.stdout)
        if first is None:
            return False
        size, piece = 0, first or await process.stdout.read(_PIECE)
        while piece:
            size += len(piece)
            if size > most:
                what = f"prints more than the {format_bytes(most)} that were to come"
                raise Missing(Problem(self.address.name, what, "check again"))
            to.write(piece)
            piece = await process.stdout.read(_PIECE)
        return True

    async def _keep(self, command: str) -> str:
        process = await self._begin(command)
        try:
            line = await asyncio.wait_for(self._after_noise(process.stdout), _SECONDS)
            began = line is not None
            line = line or b""
            while not line.endswith(b"\n") and len(line) < _LINE:
                piece = await asyncio.wait_for(process.stdout.read(1), _SECONDS)
                if not piece:
                    ended = Ended(await self._end(process), "", await _tail(process.stderr))
                    raise self.refusal(ended.said) if began else self._no_shell(ended.said)
                line += piece
        except asyncio.TimeoutError:
            raise Lost(f"gave no answer within {_SECONDS:.0f} s") from None
        except self._faults:
            raise Lost("was cut") from None
        self._kept = process
        return line.decode(errors="replace").strip()

    async def _release(self) -> bool:
        kept, self._kept = self._kept, None
        try:
            if kept is None:
                return True
            kept.stdin.write_eof()
            await asyncio.wait_for(_tail(kept.stdout), _LEAVE_SECONDS)
            return await self._end(kept) == 0
        except (Lost, asyncio.TimeoutError):
            return False
        except self._faults:
            return False
        finally:
            if kept is not None:
                await self._drop(kept)
            await self._disconnect()

    async def _after_noise(self, stdout: Any) -> bytes | None:
        """What follows the mark that a command begins with, as far as it came; None at the end."""
        seen = b""
        while len(seen) < _NOISE:
            piece: bytes = await stdout.read(_PIECE)
            if not piece:
                return None
            seen += piece
            _, mark, rest = seen.partition(_BEGIN)
            if mark:
                return rest
        raise self._no_shell("it prints endlessly")

    def _no_shell(self, said: str) -> Missing:
        what = f"its login starts no POSIX shell: {said}"
        remedy = "look at what the login there starts, and whether it is the machine you mean"
        return Missing(Problem(self.address.name, what, remedy))


class AdbShell(Shell):
    """`adb shell`, whose streams are binary and separate (since Android 7)."""

    default_directory = "/data/local/tmp"

    async def _start(self, command: str) -> Process:
        return await start_process(self.address, command)

    async def _end(self, process: Process) -> int:
        assert isinstance(process, asyncio.subprocess.Process)
        return await process.wait()

    async def _drop(self, process: Process) -> None:
        assert isinstance(process, asyncio.subprocess.Process)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(asyncio.TimeoutError):  # unless a child of it has its streams
            await asyncio.wait_for(_tail(process.stdout), _LEAVE_SECONDS)  # a full pipe never ends
            await process.wait()
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()


async def _tail(stream: Any) -> str:
    """The end of a stream, once it has ended."""
    kept = b""
    while piece := await stream.read(_PIECE):
        kept = (kept + piece)[-_KEPT_ERRORS:]
    return kept.decode(errors="replace")
