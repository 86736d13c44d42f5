"""An Android device by `adb`, measured by edgeq-runner: nothing is installed there.

Files go to a directory below /data/local/tmp that `close` removes. Written to adb's documented
interface, not run on a device.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from edgeq.core.errors import EdgeqError, InvalidInput, Missing, Problem
from edgeq.core.known_settings import SESSION_KEY
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import How, Progress
from edgeq.devices.address import Address
from edgeq.devices.profile import Device
from edgeq.formats.package import Package, open_package
from edgeq.places.adb import adb_command, require_state
from edgeq.places.place import ALL_PASSES, Place, Surroundings, Unreachable
from edgeq.places.process import (
    TIMEOUT_SECONDS,
    PassFailed,
    Request,
    conclude,
    reply_of,
    stopped,
)
from edgeq.places.runner.facts import COMMAND, parse_facts
from edgeq.places.runner.job import make_job, require_runnable, session_lines

PREPARE_FROM = 256 * 1024
"""Bytes of external data from which edgeq's Python makes a copy with packed weights, too."""
_DIRECTORY = "/data/local/tmp"
_SHELL_SECONDS = 120.0
_SLOWEST_LINE = 1 << 20  # bytes per second
_KILLED = 128 + 9
_NO_TOKENIZER = "memory without a tokenizer's, which edgeq-runner does not open: add your app's"
_RUNNER, _LIBRARY, _PROBE = "edgeq-runner", "libonnxruntime.so", "probe.onnx"


class RunnerPlace(Place):
    """Runs passes by a program and a library that are sent there. Connected on demand."""

    how: How = "measured"
    passes = ALL_PASSES
    runs_own_worker = False

    def __init__(self, address: Address, progress: Progress = lambda _: None) -> None:
        self.name = address.name
        self._address, self._progress = address, progress
        self._room = f"{address.directory or _DIRECTORY}/edgeq-{secrets.token_hex(8)}"
        self._is_furnished = False
        self._sent: set[str] = set()
        self._copies: dict[str, str | None] = {}

    @property
    def reach(self) -> str:
        return self._address.text

    def run(self, request: Request, timeout_seconds: float | None = None) -> dict[str, Any]:
        """See `Place.run`. Raises InvalidInput for artifacts that the runner cannot run."""
        package = open_package(request.artifact)
        require_runnable(package, self.name)
        self._furnish()
        limit = timeout_seconds or TIMEOUT_SECONDS[request.work]
        model = self._send_model(package)
        with TemporaryFolder() as name:
            folder = Path(name)
            job = make_job(request, package, folder)
            self._push(job.feeds, "feeds.npy")
            base = (
                *(f"library ./{_LIBRARY}", f"probe {_PROBE}", "feeds feeds.npy"),
                *session_lines(package.artifact),
                *([f"threads {request.threads}"] if request.threads else []),
            )
            copy = self._copy(package, model, base, folder, limit)
            lines = (
                f"work {request.work}",
                *base,
                *job.lines,
                f"model {copy or model}",
                f"prepared {int(copy is not None)}",
                "outputs outputs.npy",
            )
            self._progress(f"{self.name}: {request.work}")
            try:
                reply = self._execute(request.work, lines, folder, limit)
            except EdgeqError as error:
                raise type(error)(
                    Problem(f"{self.name}: {p.where}", p.what, p.remedy) for p in error.problems
                ) from None
            if request.outputs is not None:
                self._adb("pull", f"{self._room}/outputs.npy", str(request.outputs), timeout=limit)
            # A tokenizer is part of the memory that the worker in Python measures.
            missing = request.work == "memory" and package.artifact.text is not None
            return {**reply, "inputs": job.words, "warnings": [_NO_TOKENIZER] if missing else []}

    def device(self) -> Device:
        printed = self._shell(COMMAND).stdout
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return parse_facts(printed, words, self.name, self._address.text)

    def surroundings(self) -> Surroundings:
        system, _, load = self._shell("uname -srm; cat /proc/loadavg").stdout.partition("\n")
        busy = re.match(r"\d+\.\d+", load)
        return Surroundings(system.strip(), float(busy[0]) if busy else None)

    def close(self) -> None:
        if self._is_furnished:
            self._is_furnished = False
            try:
                self._shell(f"rm -rf {shlex.quote(self._room)}")
            except Unreachable:
                self._progress(f"{self.name}: gone; {self._room} is left there")

    def _furnish(self) -> None:
        """Send the runner and the library, once."""
        if self._is_furnished:
            return
        assert self._address.runner is not None  # and with it the library
        assert self._address.library is not None
        files = {_RUNNER: Path(self._address.runner), _LIBRARY: Path(self._address.library)}
        for name, path in files.items():
            if not path.is_file():
                remedy = "build it: edgeq runner android-arm64 --out edgeq-runner"
                if name == _LIBRARY:
                    remedy = "edgeq runner says where it is to be had"
                raise InvalidInput(Problem(str(path), "is not a file", remedy))
        self._progress(f"{self.name}: connecting")
        made = self._shell(f"mkdir -p {shlex.quote(self._room)}")
        if made.returncode != 0:
            what = f"{self._room} cannot be created: {_said(made)}"
            remedy = f"name a writable directory: {self.name}?directory=/path/there"
            raise Missing(Problem(self.name, what, remedy))
        self._is_furnished = True
        for name, path in files.items():
            self._push(path, name)
        from edgeq.models.onnx_session import PRODUCT_MODEL

        with TemporaryFolder() as folder:
            probe = Path(folder, _PROBE)
            probe.write_bytes(PRODUCT_MODEL)
            self._push(probe, _PROBE)
        self._shell(f"chmod 755 {shlex.quote(f'{self._room}/{_RUNNER}')}")

    def _send_model(self, package: Package) -> str:
        """Send the model's files, once each artifact; returns the graph's path in the room."""
        artifact = package.artifact
        hashes = "".join(artifact.files[name].sha256 for name in package.model_files)
        directory = hashlib.sha256(hashes.encode()).hexdigest()[:16]
        if directory not in self._sent:
            self._shell(f"mkdir -p {shlex.quote(f'{self._room}/{directory}')}")
            with TemporaryFolder() as name:
                package.extract(package.model_files, Path(name))
                for file in package.model_files:
                    self._push(Path(name, file), f"{directory}/{file}")
            self._sent.add(directory)
        return f"{directory}/{package.model_name}"

    def _copy(
        self, package: Package, model: str, base: tuple[str, ...], folder: Path, limit: float
    ) -> str | None:
        """The copy with packed weights that edgeq's Python would map, too; None without one."""
        if package.data_bytes < PREPARE_FROM or SESSION_KEY in package.artifact.settings:
            return None
        if model not in self._copies:
            self._progress(f"{self.name}: packing weights for its CPU")
            copy = f"{model.removesuffix('.onnx')}-packed.onnx"
            lines = ("work prepare", *base, f"model {model}", f"copy {copy}")
            try:
                is_same = self._execute("prepare", lines, folder, limit).get("prepared") is True
            except PassFailed:  # misaligned packed weights end the process
                is_same = False
            self._copies[model] = copy if is_same else None
        return self._copies[model]

    def _execute(
        self, work: str, lines: tuple[str, ...], folder: Path, limit: float
    ) -> dict[str, Any]:
        request = folder / "request"
        request.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._push(request, "request")
        begin = time.monotonic()
        command = f"cd {shlex.quote(self._room)} && timeout -s KILL {limit:.0f} ./{_RUNNER} request"
        done = self._shell(command, limit + _SHELL_SECONDS)
        if done.returncode == _KILLED and time.monotonic() - begin >= limit:
            raise stopped(work, limit)
        status = 128 - done.returncode if done.returncode > 128 else done.returncode
        if work == "prepare" and status == 0:
            return reply_of(done.stdout)
        return conclude(work, status, done.stdout, done.stderr)

    def _push(self, path: Path, name: str) -> None:
        seconds = _SHELL_SECONDS + path.stat().st_size / _SLOWEST_LINE
        self._adb("push", str(path), f"{self._room}/{name}", timeout=seconds)

    def _shell(
        self, command: str, timeout: float = _SHELL_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        state = self._start(("get-state",), _SHELL_SECONDS)
        require_state(self._address, state.returncode, state.stdout + state.stderr)
        return self._start(("shell", "-T", command), timeout)

    def _adb(self, *words: str, timeout: float) -> None:
        done = self._start(words, timeout)
        if done.returncode != 0:
            what = f"adb {words[0]} {shlex.quote(words[1])} failed: {_said(done)}"
            remedy = "free some space there, or name another directory: "
            raise Missing(Problem(self.name, what, f"{remedy}{self.name}?directory=/path/there"))

    def _start(self, words: tuple[str, ...], timeout: float) -> subprocess.CompletedProcess[str]:
        command = [*adb_command(self._address), *words]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            what = f"adb {words[0]} did not finish within {timeout:.0f} s"
            raise Unreachable(Problem(self.name, what, "check its cable: adb devices")) from None


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stderr or done.stdout).split())[:200] or "no reason given"
