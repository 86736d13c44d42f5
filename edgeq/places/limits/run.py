"""Run a pass under a hard memory limit: survived or killed, and at what peak.

The limit covers the whole worker: Python and the runtime's own memory, which a memory pass reports
as its baseline, and the model. A group is charged for anonymous pages, and for pages of files that
it is the first to read. Code of Python and of the runtime, which other processes have read before,
is free; the artifact and its prepacked copies are dropped from the page cache before each run, so
they are charged (see `limits_pages`). If anonymous memory fits and mapped weights do not, nothing
fails: pages are dropped and read again from this machine's disk, run after run. So survival means
little without the latency.

The first working mechanism of three is used: a control group of version 2, of version 1, and
RLIMIT_DATA, which is coarser: it counts writable memory that a process reserves, touched or not,
and no mapped weights at all. On systems other than Linux there is none.
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
# A runtime that is refused memory reports that it cannot open the model.
_OUT_OF_MEMORY = re.compile("alloc|memory", re.IGNORECASE)
_PROBE_LIMIT = 64 * MIB  # must end `limits_probe`


@dataclass(frozen=True)
class Usage:
    """Resource usage of a limited run.

    peak_bytes: its peak charge, page cache included, so it approaches the limit if files are
    larger; None if the mechanism does not count. kills: processes that the kernel killed for
    exceeding it. warm_bytes: bytes of the artifact's files that were in memory before and could not
    be dropped, and so were not covered by the limit.
    """

    peak_bytes: int | None
    kills: int
    warm_bytes: int


class OverLimit(PassFailed):
    """A pass that gave no result under a limit; `usage` is its usage until then.

    stopped: it did not finish in time, as when it reads its weights from disk again and again.
    """

    def __init__(self, message: str, usage: Usage, *, stopped: bool) -> None:
        super().__init__(message)
        self.usage = usage
        self.stopped = stopped


class ActiveLimit(Protocol):
    """A limit in force: commands started with `prefix` are under it."""

    @property
    def prefix(self) -> tuple[str, ...]: ...

    def taken(self) -> tuple[int | None, int]:
        """Peak in bytes, None if it is not counted, and how many processes were killed."""


class Limiter(ABC):
    """A way to limit the memory of a process."""

    mechanism: Mechanism

    @abstractmethod
    def hold(self, limit_bytes: int) -> AbstractContextManager[ActiveLimit]:
        """A limit for processes started in a `with` block; it is removed afterwards."""

    def bites(self) -> bool:
        """Whether a process that exceeds a limit is really ended by it."""
        try:
            with self.hold(_PROBE_LIMIT) as active:
                command = [*active.prefix, *child.command("edgeq.places.limits.probe")]
                ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
                return ended.returncode != 0 and self._ended_it(active, ended.stderr)
        except (OSError, subprocess.TimeoutExpired):
            return False

    @abstractmethod
    def _ended_it(self, active: ActiveLimit, said: str) -> bool:
        """Whether the limit ended a Python process, judged by its standard error."""


class _ActiveGroup:
    def __init__(self, group: Group) -> None:
        # The shell joins and becomes the command, so that all its memory is charged.
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
    def hold(self, limit_bytes: int) -> Iterator[ActiveLimit]:
        """See `Limiter.hold`."""
        with Group(self._version, self._parent, limit_bytes) as group:
            yield _ActiveGroup(group)

    def _ended_it(self, active: ActiveLimit, said: str) -> bool:
        return active.taken()[1] > 0


class _ActiveRlimit:
    def __init__(self, limit_bytes: int) -> None:
        set_limit = 'ulimit -d "$0" && exec "$@"'
        self.prefix = ("/bin/sh", "-c", set_limit, str(limit_bytes // 1024))

    def taken(self) -> tuple[int | None, int]:
        return None, 0


class DataLimiter(Limiter):
    """Limit by RLIMIT_DATA: allocations fail, which ends the worker with a runtime error."""

    mechanism: Mechanism = "RLIMIT_DATA"

    @contextlib.contextmanager
    def hold(self, limit_bytes: int) -> Iterator[ActiveLimit]:
        """See `Limiter.hold`."""
        yield _ActiveRlimit(limit_bytes)

    def _ended_it(self, active: ActiveLimit, said: str) -> bool:
        return "MemoryError" in said


def available() -> Limiter | str:
    """The best working mechanism on this machine, or the reason why there is none.

    Each is tested by ending a small process with it, which takes 0.1 s. Also removes groups of
    killed runs.
    """
    if sys.platform != "linux":
        return "memory can be limited on Linux only"
    control_groups.remove_stale()
    candidates: list[Limiter] = [GroupLimiter(*found) for found in control_groups.parents()]
    for limiter in [*candidates, DataLimiter()]:
        if limiter.bites():
            return limiter
    return "no control group can be made here, and RLIMIT_DATA has no effect"


class LimitedPlace(Here):
    """This machine with `limit_bytes` for every worker.

    `limiter` is the result of `available`, which is called by default. Raises Missing if memory
    cannot be limited.
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
        """The reply to `request`, and the usage of the run. Raises as `run` does."""
        files = [*page_cache.files_below(request.artifact), *_kept_of(request.artifact)]
        with self._limiter.hold(self.limit_bytes) as active:
            warm = page_cache.drop(files)
            try:
                reply = run_worker(request, timeout_seconds, prefix=active.prefix)
            except (PassFailed, InvalidInput) as error:
                if isinstance(error, InvalidInput) and not _OUT_OF_MEMORY.search(str(error)):
                    raise
                usage = Usage(*active.taken(), warm)
                if usage.peak_bytes == 0:
                    what = f"a process could not join the {self.mechanism}: {error}"
                    raise Missing(Problem("memory limit", what, _NO_GROUPS)) from None
                limit = f"the limit of {format_bytes(self.limit_bytes)} ({self.mechanism})"
                stopped = isinstance(error, PassStopped)
                raise OverLimit(f"under {limit}, {_said(error)}", usage, stopped=stopped) from None
            return reply, Usage(*active.taken(), warm)


def _said(error: PassFailed | InvalidInput) -> str:
    """The error's message without the remedy, which does not apply when memory ran out."""
    if isinstance(error, InvalidInput):
        return "; ".join(f"{problem.where}: {problem.what}" for problem in error.problems)
    return str(error)


def _kept_of(artifact: Path) -> Iterator[Path]:
    """Files that runners made from an artifact and keep: they map these instead of the artifact's
    own.

    The manifest of such files names the SHA-256 of every file that they were made from.
    """
    digests = [file.sha256 for file in read_record(artifact).files.values()]
    for manifest in runtime_cache.cache_directory().glob(f"*/*/{MANIFEST}"):
        with contextlib.suppress(OSError):  # another process may be removing it
            text = manifest.read_text(encoding="utf-8")
            if any(digest in text for digest in digests):
                yield from page_cache.files_below(manifest.parent)
