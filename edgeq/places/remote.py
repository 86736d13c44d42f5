"""Another machine as a place: the same worker in a temporary directory, which is removed."""

from __future__ import annotations

import json
import os
import re
import secrets
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from edgeq.core.artifact import ARTIFACT_FILE, read_record
from edgeq.core.errors import EdgeqError, Missing, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import How, Progress
from edgeq.devices.address import Address
from edgeq.devices.profile import Device
from edgeq.formats.registry import file_format
from edgeq.places import needs
from edgeq.places.answers import Done, Greeting, Load, Ran
from edgeq.places.background import Background
from edgeq.places.file_manifest import files_below, write_source
from edgeq.places.file_transfer import FileTransfer
from edgeq.places.link import PATIENCE_SECONDS, Channel, Link, Lost, NoPython, start_command
from edgeq.places.place import ALL_PASSES, Place, Surroundings, Unreachable
from edgeq.places.process import (
    TIMEOUT_SECONDS,
    Request,
    conclude,
    problems_of,
    reply_of,
    stopped,
)
from edgeq.quantize.ggml.llama_api import CHOICE

_T = TypeVar("_T")
# fields of a Request, read by the worker
_FILES = ("artifact", "reference", "feed", "arrays", "corpus")
_OUTPUTS = "outputs"
_FACTS_SECONDS = 60.0
_LEAVE_SECONDS = 30.0


class _Session(NamedTuple):
    """A connection, and the facts that its agent reported."""

    link: Link
    facts: Greeting


class RemotePlace(Place):
    """A POSIX machine reached through the standard streams of a command; connected on demand.

    Files are copied by hash into a directory there that is removed by `close`, or on the next visit
    or `linger_seconds` after the connection was lost. A lost connection is reopened once, and files
    copied by then are not copied again. silence_seconds: time without a sign of life after which a
    connection counts as lost, on both sides. One thread at a time.
    """

    how: How = "measured"
    passes = ALL_PASSES
    runs_own_worker = False

    def __init__(
        self,
        address: Address,
        progress: Progress = lambda _: None,
        *,
        silence_seconds: float = 30.0,
        linger_seconds: float = 60.0,
    ) -> None:
        self.name = address.name
        self._address, self._progress = address, progress
        self._silence, self._linger = silence_seconds, linger_seconds
        self._cargo = FileTransfer(address, progress)
        self._name_there = secrets.token_hex(8)
        self._background: Background | None = None
        self._session: _Session | None = None

    @property
    def reach(self) -> str:
        return self._address.text

    @property
    def copied_bytes(self) -> int:
        """Bytes of files sent so far."""
        return self._cargo.copied_bytes

    @abstractmethod
    async def _open(self, command: str) -> Channel:
        """Start a command for a POSIX shell there; raises Unreachable or Missing."""

    def run(self, request: Request, timeout_seconds: float | None = None) -> dict[str, Any]:
        limit = TIMEOUT_SECONDS[request.work] if timeout_seconds is None else timeout_seconds
        return self._call(lambda session: self._pass(session, request, limit))

    def device(self) -> Device:
        return self._call(self._device)

    def surroundings(self) -> Surroundings:
        return self._call(self._surroundings)

    def close(self) -> None:
        background, self._background = self._background, None
        if background is not None:
            try:
                background.call(self._leave())
            finally:
                background.stop()

    def _call(self, work: Callable[[_Session], Awaitable[_T]]) -> _T:
        if self._background is None:
            self._background = Background()
        return self._background.call(self._twice(work))

    async def _twice(self, work: Callable[[_Session], Awaitable[_T]]) -> _T:
        """Do `work` on a connection, and once more on a new one if that is lost."""
        reasons: list[str] = []
        while len(reasons) < 2:
            try:
                return await work(await self._connect())
            except Lost as error:
                self._progress(f"{self.name}: the connection {error}")
                reasons.append(str(error))
            except Unreachable as error:
                if not reasons:
                    raise
                reasons += [problem.what for problem in error.problems]
        what = f"the connection {reasons[0]}; tried once more: {reasons[1]}"
        raise Unreachable(Problem(self.name, what, "check the machine and its network"))

    async def _connect(self) -> _Session:
        """The current connection, or a new one, with edgeq's source sent."""
        if self._session is not None and not self._session.link.lost:
            return self._session
        if self._session is not None:
            self._session.link.close()
        self._progress(f"{self.name}: connecting")
        link = Link(await self._open(start_command(self._address.python)), self._silence)
        try:
            facts = await self._greet(link)
            needs.require_packages(self._address, facts, gguf=False)
            with TemporaryFolder() as folder:
                source = Path(folder, "source.zip")
                write_source(source)
                hashes = await self._cargo.supply(link, {"source": source})
            await self._cargo.ask(link, {"op": "unpack", "sha256": hashes["source"]}, Done)
        except BaseException:
            await link.leave(_LEAVE_SECONDS)
            raise
        self._session = _Session(link, facts)
        return self._session

    async def _greet(self, link: Link) -> Greeting:
        hello = {
            "session": self._name_there,
            "directory": self._address.directory,
            "packages": [*needs.PACKAGES, *needs.LLAMAS],
            "silence": self._silence,
            "linger": self._linger,
        }
        try:
            facts = await link.greet(hello)
        except NoPython as error:
            raise needs.no_python(self._address, error.found, error.said) from None
        return self._cargo.answer(Greeting, facts)

    async def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.link.leave(_LEAVE_SECONDS)

    async def _pass(self, session: _Session, request: Request, limit: float) -> dict[str, Any]:
        """Lay out the files, run the pass, return its outputs."""
        paths = {name: path for name in _FILES if (path := getattr(request, name)) is not None}
        needs.require_packages(self._address, session.facts, gguf=_wants_llama(paths))
        names = {name: f"{name}/{path.absolute().name}" for name, path in paths.items()}
        files: dict[str, Path] = {}
        for name, path in paths.items():
            files |= files_below(path, names[name])
        run = await self._cargo.lay(session.link, files)
        try:
            there = {name: f"{run}/{below}" for name, below in names.items()}
            here = {there[name]: str(path) for name, path in paths.items()}
            if request.outputs is not None:
                there[_OUTPUTS] = f"{run}/{_OUTPUTS}"
                here[there[_OUTPUTS]] = str(request.outputs)
            asked = json.dumps(request.model_dump(mode="json") | there).encode()
            self._progress(f"{self.name}: {request.work}")
            answer = await self._execute(session, "edgeq.measure.worker", asked, limit)
            reply = self._reply(request, answer, limit, here)
            if request.outputs is not None:
                await self._cargo.fetch(session.link, there[_OUTPUTS], request.outputs)
            return reply
        finally:
            if not session.link.lost:
                await self._cargo.ask(session.link, {"op": "drop", "path": run}, Done)

    def _reply(
        self, request: Request, answer: Ran, limit: float, here: Mapping[str, str]
    ) -> dict[str, Any]:
        """The second half of `run_worker`; `here` maps paths there to files of this machine."""

        def translate(text: str) -> str:
            for there, path in here.items():
                text = text.replace(there, path)
            return text

        if answer.status is None:
            raise stopped(request.work, limit)
        errors = translate(answer.errors)
        try:
            return conclude(request.work, answer.status, answer.output, errors)
        except EdgeqError as error:
            raise type(error)(
                Problem(f"{self.name}: {translate(p.where)}", translate(p.what), p.remedy)
                for p in error.problems
            ) from None

    async def _execute(self, session: _Session, module: str, given: bytes, limit: float) -> Ran:
        chosen = os.environ.get(CHOICE)
        environment = {CHOICE: chosen} if chosen else {}
        header = {"op": "run", "module": module, "timeout": limit, "environment": environment}
        patience = limit + PATIENCE_SECONDS
        return await self._cargo.ask(session.link, header, Ran, given, patience=patience)

    async def _device(self, session: _Session) -> Device:
        answer = await self._execute(session, "edgeq.places.facts", b"", _FACTS_SECONDS)
        if answer.status == Missing.exit_code and (problems := problems_of(answer.output)):
            raise Missing(
                Problem(f"{self.name}: {each.where}", each.what, each.remedy) for each in problems
            )
        if answer.status != 0:
            said = " ".join(answer.errors.split()[-60:]) or "it gave no reason"
            raise Missing(Problem(self.name, f"its facts cannot be read: {said}"))
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        own = {"id": words, "name": self.name, "reach": self._address.text}
        try:
            return Device.model_validate(reply_of(answer.output) | own)
        except ValueError as error:
            what = f"its facts cannot be read: {' '.join(str(error).split())[:200]}"
            raise Missing(Problem(self.name, what)) from None

    async def _surroundings(self, session: _Session) -> Surroundings:
        answer = await self._cargo.ask(session.link, {"op": "load"}, Load)
        others = needs.differences(session.facts)
        return Surroundings(session.facts.system, answer.load_average, others)


def _wants_llama(paths: Mapping[str, Path]) -> bool:
    """Whether one of the artifacts is a GGUF file."""
    artifacts = [path for name in ("artifact", "reference") if (path := paths.get(name))]
    return any(
        file_format(read_record(path).format).has_mixes
        for path in artifacts
        if (path / ARTIFACT_FILE).is_file()  # recorded answers have none
    )
