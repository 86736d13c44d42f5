"""Another machine, over ssh or adb, measured by edgeq-runner: nothing is installed there.

Files go to a directory there that a command waiting there removes: at the end, or when the
connection ends.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import EdgeqError, Problem
from edgeq.core.known_settings import SESSION_KEY
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import How, Progress
from edgeq.devices.profile import Device
from edgeq.formats.package import Package, open_package
from edgeq.places.link import Lost
from edgeq.places.place import ALL_PASSES, Place, Surroundings, Unreachable
from edgeq.places.process import (
    TIMEOUT_SECONDS,
    PassFailed,
    Request,
    conclude,
    reply_of,
    stopped,
)
from edgeq.places.runner.build import (
    NAMES,
    RUNNER,
    Target,
    find_library,
    find_runner,
    target_of,
)
from edgeq.places.runner.facts import COMMAND, parse_facts
from edgeq.places.runner.job import make_job, require_runnable
from edgeq.places.runner.shell import Shell
from edgeq.places.runner.text_job import make_text_job

PREPARE_FROM = 256 * 1024
"""Bytes of external data from which edgeq's Python makes a copy with packed weights, too."""
_SPARE_SECONDS = 120.0
_NOT_STARTED = (126, 127)  # a shell's statuses
_ALARM = -14  # ended by SIGALRM, which Windows does not define
_PID = "pid"
_T = TypeVar("_T")
# What it was told to run may have ended long ago, and another process may have its number.
_KEEPER = (
    "trap '' HUP; umask 077; mkdir -p {room} && cd {room} || exit 1; room=$PWD; echo \"$room\"; "
    "cat > /dev/null; pid=$(cat {pid} 2>/dev/null) && grep -q {runner} /proc/$pid/cmdline "
    '2>/dev/null && kill -9 $pid; cd / && rm -rf "$room"'
)


class RunnerPlace(Place):
    """Runs passes by a program and a library that are sent there. Connected on demand.

    A lost connection is reopened once.
    """

    how: How = "measured"
    passes = ALL_PASSES
    runs_own_worker = False
    compares = False

    def __init__(self, shell: Shell, progress: Progress = lambda _: None) -> None:
        self.name = shell.address.name
        self._shell, self._progress = shell, progress
        self._room: str | None = None
        self._target: Target | None = None
        self._sent: set[str] = set()
        self._copies: dict[str, str | None] = {}

    @property
    def reach(self) -> str:
        return self._shell.address.text

    def run(self, request: Request, timeout_seconds: float | None = None) -> dict[str, Any]:
        """See `Place.run`. Raises InvalidInput for artifacts that the runner cannot run."""
        package = open_package(request.artifact)
        require_runnable(package, self.name)
        limit = timeout_seconds or TIMEOUT_SECONDS[request.work]
        return self._twice(lambda: self._pass(request, package, limit))

    def device(self) -> Device:
        return self._twice(self._device)

    def surroundings(self) -> Surroundings:
        printed = self._twice(lambda: self._shell.run("uname -srm; cat /proc/loadavg")).output
        system, _, load = printed.partition("\n")
        busy = re.match(r"\d+\.\d+", load)
        return Surroundings(system.strip(), float(busy[0]) if busy else None)

    def close(self) -> None:
        room, self._room = self._room, None
        if not self._shell.release() and room is not None:
            self._progress(f"{self.name}: gone; {room} may be left there")

    def _twice(self, work: Callable[[], _T]) -> _T:
        """Do `work`, and once more on a new connection if that is lost."""
        reasons: list[str] = []
        while len(reasons) < 2:
            try:
                return work()
            except Lost as error:
                self._progress(f"{self.name}: the connection {error}")
                reasons.append(str(error))
                self.close()
                self._sent.clear()
                self._copies.clear()
        what = f"the connection {reasons[0]}; tried once more: {reasons[1]}"
        raise Unreachable(Problem(self.name, what, "check the machine and its network"))

    def _device(self) -> Device:
        printed = self._shell.run(COMMAND).output
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return parse_facts(printed, words, self.name, self.reach)

    def _pass(self, request: Request, package: Package, limit: float) -> dict[str, Any]:
        room = self._furnish()
        make = make_text_job if request.workload else make_job
        runtime = "onnxruntime" if package.model_name == MODEL_FILE else "llama.cpp"
        library = self._send_library(room, runtime)
        model = self._send_model(room, package)
        with TemporaryFolder() as name:
            folder = Path(name)
            job = make(request, package, folder)
            for file in job.files:
                self._shell.send(file, f"{room}/{file.name}")
            base = (
                *library,
                *job.base,
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
            self._progress(f"{self.name}: {request.work}, by {RUNNER}")
            try:
                reply = self._execute(request.work, lines, folder, limit)
            except EdgeqError as error:
                assert self._target is not None
                fetch = f"get its library: {self._target.libraries[runtime].fetch}"
                raise type(error)(
                    Problem(f"{self.name}: {p.where}", p.what, p.remedy or fetch)
                    for p in error.problems
                ) from None
            if request.outputs is not None:
                self._shell.fetch(f"{room}/outputs.npy", request.outputs)
            return {**reply, **job.facts, "warnings": list(_warnings(request, package))}

    def _furnish(self) -> str:
        """Send the runner, once; returns the directory there."""
        if self._room is not None:
            return self._room
        self._target = target_of(self._device())
        self._progress(f"{self.name}: compiling {RUNNER}")
        runner = find_runner(self._target)
        above = self._shell.address.directory or self._shell.default_directory
        quoted = shlex.quote(str(Path(above, f"edgeq-{secrets.token_hex(8)}")))
        room = self._shell.keep(_KEEPER.format(room=quoted, pid=_PID, runner=RUNNER))
        for name in (RUNNER, NAMES):
            self._shell.send(runner / name, f"{room}/{name}")
        self._shell.run(f"chmod 700 {shlex.quote(f'{room}/{RUNNER}')}")
        self._room = room
        return room

    def _send_library(self, room: str, runtime: str) -> tuple[str, ...]:
        """Send a runtime's library, once; returns the request's lines about it."""
        name, address = f"{runtime}.so", self._shell.address
        assert self._target is not None
        assert address.library is not None  # the address's word for a place of this kind
        if name not in self._sent:
            with TemporaryFolder() as folder:
                path = Path(address.library)
                found = find_library(path, self._target, runtime, Path(folder))
                self._shell.send(found, f"{room}/{name}")
            self._sent.add(name)
        return (f"library ./{name}", f"names ./{NAMES}")

    def _send_model(self, room: str, package: Package) -> str:
        """Send the model's files, once each artifact; returns the graph's path in the room."""
        artifact = package.artifact
        hashes = "".join(artifact.files[name].sha256 for name in package.model_files)
        directory = hashlib.sha256(hashes.encode()).hexdigest()[:16]
        if directory not in self._sent:
            self._shell.run(f"mkdir -p {shlex.quote(f'{room}/{directory}')}")
            with TemporaryFolder() as name:
                package.extract(package.model_files, Path(name))
                for file in package.model_files:
                    self._shell.send(Path(name, file), f"{room}/{directory}/{file}")
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
        text = "\n".join((*lines, f"seconds {max(1, round(limit))}"))
        request.write_text(f"{text}\n", encoding="utf-8")
        self._shell.send(request, f"{self._room}/request")
        quoted = shlex.quote(str(self._room))
        command = f"cd {quoted} && echo $$ > {_PID} && exec ./{RUNNER} request"
        status, output, errors = done = self._shell.run(command, limit + _SPARE_SECONDS)
        if status in _NOT_STARTED:
            raise self._shell.refusal(f"{RUNNER} cannot be started there: {done.said}")
        status = 128 - status if status > 128 else status
        if status == _ALARM:
            raise stopped(work, limit)
        if work == "prepare" and status == 0:
            return reply_of(output)
        return conclude(work, status, output, errors)


def _warnings(request: Request, package: Package) -> Iterator[str]:
    """What a reader must know of a memory pass: what measured it, and what it lacks."""
    if request.work == "memory":
        words = f"measured by {RUNNER}, without Python"
        if package.artifact.text is not None and package.model_name == MODEL_FILE:
            words += "; memory without a tokenizer's, which it does not open: add your app's"
        yield words
