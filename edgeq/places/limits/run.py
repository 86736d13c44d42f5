"""Running a pass under a hard limit of memory: survived or killed, and at what peak.

The limit holds the whole worker: Python and the runtime's own variables, which a memory pass tells
apart as its baseline, and the model. What a group is charged for: anonymous pages, and pages of
files that it is the first to read. Code of Python and of the runtime, which other processes have
read before, is free; the artifact and the copies prepared of it are dropped from the page cache
before each run, so that they are not (see `limits_pages`). Where anonymous memory fits and mapped
weights do not, nothing fails: pages are dropped and read again from this machine's disk, run after
run. Hence a survivor says little without its latency.

Three mechanisms, the first that bites is taken: a control group of version 2, of version 1, and
RLIMIT_DATA, which is coarser: it counts what a process reserves to write, touched or not, and no
mapped weights at all. Elsewhere than on Linux there is none.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeq.core import child
from edgeq.core.artifact import read_record
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.store import MANIFEST
from edgeq.core.units import MIB, format_bytes
from edgeq.formats import runtime_cache
from edgeq.places.limits import control_groups, page_cache
from edgeq.places.limits.control_groups import Group
from edgeq.places.limits.records import Mechanism
from edgeq.places.place import Here
from edgeq.places.process import PassFailed, PassStopped, Request, run_worker

_NO_GROUPS = (
    "run as root, or where the user owns a control group with the memory controller; a container "
    "needs its groups mounted writable"
)
# A runtime that is refused memory says that it cannot open the model.
_OUT_OF_MEMORY = re.compile("alloc|memory", re.IGNORECASE)
_PROBE_LIMIT = 64 * MIB  # must end `limits_probe`


@dataclass(frozen=True)
class Usage:
    """What a limited run took.

    peak_bytes: the most that was charged to it, page cache included, so that it nears the limit
    wherever files are larger; None where the mechanism does not count. kills: processes that the
    kernel ended for being over it. warm_bytes: of the artifact's files, what was in memory before
    and could not be dropped, and so was not held by the limit.
    """

    peak_bytes: int | None
    kills: int
    warm_bytes: int


class OverLimit(PassFailed):
    """A pass that gave no result under a limit; `usage` says what it took until then.

    stopped: it did not finish in time, as when it reads its weights from disk again and again.
    """

    def __init__(self, message: str, usage: Usage, *, stopped: bool) -> None:
        super().__init__(message)
        self.usage = usage
        self.stopped = stopped


class Held(Protocol):
    """A limit in force: commands begun with `prefix` are under it."""

    @property
    def prefix(self) -> tuple[str, ...]: ...

    def taken(self) -> tuple[int | None, int]:
        """Peak in bytes, None where it is not counted, and how many processes were killed."""


class Limiter(ABC):
    """A way to limit the memory of a process."""

    mechanism: Mechanism

    @abstractmethod
    def hold(self, limit_bytes: int) -> AbstractContextManager[Held]:
        """A limit for what is begun in a `with` block; nothing of it is left behind it."""

    def bites(self) -> bool:
        """Whether a process that takes more than a limit is really ended by it."""
        try:
            with self.hold(_PROBE_LIMIT) as held:
                command = [*held.prefix, *child.command("edgeq.places.limits.probe")]
                ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
                return ended.returncode != 0 and self._ended_it(held, ended.stderr)
        except (OSError, subprocess.TimeoutExpired):
            return False

    @abstractmethod
    def _ended_it(self, held: Held, said: str) -> bool:
        """Whether it was the limit that ended a Python process, which said so on standard error."""


class _HeldGroup:
    def __init__(self, group: Group) -> None:
        # The shell joins and becomes the command: all that the command takes is charged.
        join = 'echo $$ > "$0" && exec "$@"'
        self.prefix = ("/bin/sh", "-c", join, str(group.members))
        self._group = group

    def taken(self) -> tuple[int | None, int]:
        return self._group.peak_bytes(), self._group.kills()


class GroupLimiter(Limiter):
    """Limit by control groups in the group `parent`, which may have children with a limit."""

    def __init__(self, version: int, parent: Path) -> None:
        self.mechanism = "cgroup v2" if version == 2 else "cgroup v1"
        self._version, self._parent = version, parent

    @contextlib.contextmanager
    def hold(self, limit_bytes: int) -> Iterator[Held]:
        """See `Limiter.hold`."""
        with Group(self._version, self._parent, limit_bytes) as group:
            yield _HeldGroup(group)

    def _ended_it(self, held: Held, said: str) -> bool:
        return held.taken()[1] > 0


class _HeldData:
    def __init__(self, limit_bytes: int) -> None:
        set_limit = 'ulimit -d "$0" && exec "$@"'
        self.prefix = ("/bin/sh", "-c", set_limit, str(limit_bytes // 1024))

    def taken(self) -> tuple[int | None, int]:
        return None, 0


class DataLimiter(Limiter):
    """Limit by RLIMIT_DATA: allocations fail, which ends the worker with a runtime error."""

    mechanism: Mechanism = "RLIMIT_DATA"

    @contextlib.contextmanager
    def hold(self, limit_bytes: int) -> Iterator[Held]:
        """See `Limiter.hold`."""
        yield _HeldData(limit_bytes)

    def _ended_it(self, held: Held, said: str) -> bool:
        return "MemoryError" in said


def available() -> Limiter | str:
    """The best mechanism that bites on this machine, or the reason why there is none.

    Each is tried by ending a small process with it, which takes 0.1 s. Also removes groups of runs
    that were killed.
    """
    if sys.platform != "linux":
        return "memory can be limited on Linux only"
    control_groups.remove_stale()
    candidates: list[Limiter] = [GroupLimiter(*found) for found in control_groups.parents()]
    for limiter in [*candidates, DataLimiter()]:
        if limiter.bites():
            return limiter
    return "no control group can be made here, and RLIMIT_DATA does not hold"


class LimitedPlace(Here):
    """This machine with `limit_bytes` for every worker.

    `limiter` is what `available` found, which is asked where it is left out. Raises Missing where
    memory cannot be limited.
    """

    def __init__(self, limit_bytes: int, limiter: Limiter | None = None) -> None:
        found = limiter or available()
        if isinstance(found, str):
            raise Missing(Problem("memory limit", found, _NO_GROUPS))
        self.limit_bytes = limit_bytes
        self.mechanism = found.mechanism
        self.name = f"here in {format_bytes(limit_bytes)} ({found.mechanism})"
        self._limiter = found

    def run(self, request: Request, timeout_seconds: float | None = None) -> dict[str, Any]:
        """See `Place.run`; a pass that fails raises OverLimit, a kind of PassFailed."""
        return self.watch(request, timeout_seconds)[0]

    def watch(
        self, request: Request, timeout_seconds: float | None = None
    ) -> tuple[dict[str, Any], Usage]:
        """The reply to `request`, and what the run took. Raises as `run` does."""
        files = [*page_cache.files_below(request.artifact), *_kept_of(request.artifact)]
        with self._limiter.hold(self.limit_bytes) as held:
            warm = page_cache.drop(files)
            try:
                reply = run_worker(request, timeout_seconds, prefix=held.prefix)
            except (PassFailed, InvalidInput) as error:
                if isinstance(error, InvalidInput) and not _OUT_OF_MEMORY.search(str(error)):
                    raise
                usage = Usage(*held.taken(), warm)
                if usage.peak_bytes == 0:
                    what = f"a process could not join the {self.mechanism}: {error}"
                    raise Missing(Problem("memory limit", what, _NO_GROUPS)) from None
                limit = f"the limit of {format_bytes(self.limit_bytes)} ({self.mechanism})"
                stopped = isinstance(error, PassStopped)
                raise OverLimit(f"under {limit}, {_said(error)}", usage, stopped=stopped) from None
            return reply, Usage(*held.taken(), warm)


def _said(error: PassFailed | InvalidInput) -> str:
    """What went wrong; not the remedy, which is none when memory ran out."""
    if isinstance(error, InvalidInput):
        return "; ".join(f"{problem.where}: {problem.what}" for problem in error.problems)
    return str(error)


def _kept_of(artifact: Path) -> Iterator[Path]:
    """What runners made of an artifact and kept: they map it in place of the artifact's own files.

    The manifest of what is kept names the SHA-256 of every file that it was made from.
    """
    digests = [file.sha256 for file in read_record(artifact).files.values()]
    for manifest in runtime_cache.cache_directory().glob(f"*/*/{MANIFEST}"):
        with contextlib.suppress(OSError):  # another process may be removing it
            text = manifest.read_text(encoding="utf-8")
            if any(digest in text for digest in digests):
                yield from page_cache.files_below(manifest.parent)
