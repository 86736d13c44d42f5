"""An Android device reached by `adb`. Written to adb's documented interface, not run on a device.

The device needs a Python with the packages of `edgeq.places.needs`, startable from adb's shell: one
below /data/local/tmp, named as `adb?python=/data/local/tmp/.../bin/python3`; or Termux's, which
only root or `run-as` may start, through a script there that does.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil

from edgeq.core.errors import Missing, Problem
from edgeq.devices.address import Address
from edgeq.places.link import Channel, Lost, words_of
from edgeq.places.place import Unreachable
from edgeq.places.remote import RemotePlace

_START_SECONDS = 30.0  # adb starts its server first, if none is running


class AdbPlace(RemotePlace):
    """An Android device by `adb shell`, whose streams are binary and separate (since Android 7)."""

    async def _open(self, command: str) -> Channel:
        return _AdbChannel(await start_process(self._address, command))


async def start_process(address: Address, command: str) -> asyncio.subprocess.Process:
    """Start a command for the device's shell; raises Unreachable, and Missing without adb."""
    start = adb_command(address)
    await require_device(address, start)
    return await asyncio.create_subprocess_exec(
        *start,
        "shell",
        "-T",
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def adb_command(address: Address) -> list[str]:
    """The words that begin every command for this device. Raises Missing without adb."""
    adb = shutil.which("adb")
    if adb is None:
        what = f"not installed; it is needed to reach {address.name}"
        remedy = "install Android's platform tools, e.g.: apt-get install adb"
        raise Missing(Problem("adb", what, remedy))
    return [adb, *(["-s", address.serial] if address.serial else [])]


async def require_device(address: Address, start: list[str]) -> None:
    """Raise Unreachable with adb's own message unless exactly one device accepts us."""
    process = await asyncio.create_subprocess_exec(
        *start,
        "get-state",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _START_SECONDS)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        what = f"adb did not answer within {_START_SECONDS:g} s"
        raise Unreachable(Problem(address.name, what, "run: adb kill-server")) from None
    state = " ".join(said.decode(errors="replace").split())
    if process.returncode != 0 or not state.endswith("device"):
        remedy = "plug it in, allow USB debugging on its screen, and check: adb devices"
        if "more than one" in state:
            remedy = "name one: adb:SERIAL, as `adb devices` lists it"
        raise Unreachable(Problem(address.name, f"adb says: {state or 'nothing'}", remedy))


class _AdbChannel:
    """The streams of one `adb shell`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr

    async def read(self, size: int) -> bytes:
        try:
            return await self._stdout.readexactly(size)
        except (asyncio.IncompleteReadError, OSError):
            raise Lost("was cut") from None

    async def write(self, data: bytes) -> None:
        try:
            self._stdin.write(data)
            await self._stdin.drain()
        except OSError:
            raise Lost("was cut") from None

    async def last_words(self) -> str:
        return await words_of(lambda: self._stderr.read(4096))

    def abort(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
