"""Memory control groups of Linux, versions 1 and 2: created for one run, removed after it.

A group is made in this process's group or, if that may not have children, in the nearest parent
that may. Swap is off in it. Processes are killed with it; a group whose creator died is removed by
the next process that looks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from edgeq.devices.cpu import Hierarchy, hierarchies

_PREFIX = "edgeq-"
_OWNED = re.compile(rf"{_PREFIX}(\d+)-(\d+)-\d+")
_MEMBERS = "cgroup.procs"
_REMOVE_SECONDS = 10.0  # a killed process holds its group until the kernel has cleaned it up
_numbers = itertools.count()


class _Files(NamedTuple):
    """File names of a version; swap's limit includes memory in version 1."""

    limit: str
    swap: str
    peak: str
    events: str


_FILES = {
    1: _Files(
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.oom_control",
    ),
    2: _Files("memory.max", "memory.swap.max", "memory.peak", "memory.events"),
}


class Group:
    """A control group with a limit in bytes, which the kernel rounds down to whole pages.

    Use as a context manager. Raises OSError if it cannot be created.
    """

    def __init__(self, version: int, parent: Path, limit_bytes: int) -> None:
        self._version, self._files = version, _FILES[version]
        self._limit = limit_bytes
        self.path = parent / f"{_PREFIX}{_owner()}-{next(_numbers)}"

    def __enter__(self) -> Group:
        self.path.mkdir()
        try:
            (self.path / self._files.limit).write_text(str(self._limit))
            self._forbid_swap()
        except BaseException:
            self.path.rmdir()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        deadline = time.monotonic() + _REMOVE_SECONDS
        while True:
            self._end_members()
            try:
                self.path.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    @property
    def members(self) -> Path:
        """The file to which a process writes its id to join."""
        return self.path / _MEMBERS

    def peak_bytes(self) -> int | None:
        """Peak charge of its processes, including page cache; None on old kernels."""
        with contextlib.suppress(OSError):
            return int((self.path / self._files.peak).read_text())
        return None

    def kills(self) -> int:
        """Number of its processes that the kernel killed because they exceeded the limit."""
        return parse_kills((self.path / self._files.events).read_text())

    def _forbid_swap(self) -> None:
        swap = self.path / self._files.swap
        if self._version == 2:
            if swap.exists():  # missing if the kernel does not count swap
                swap.write_text("0")
        elif swap.exists():
            swap.write_text(str(self._limit))
        else:
            (self.path / "memory.swappiness").write_text("0")

    def _end_members(self) -> None:
        with contextlib.suppress(OSError):
            for member in self.members.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(member), signal.SIGKILL)


def parse_kills(events: str) -> int:
    """The number in the line `oom_kill 1` of version 1's oom_control or version 2's events."""
    found = re.search(r"^oom_kill (\d+)$", events, re.MULTILINE)
    return int(found.group(1)) if found else 0


def parents() -> Iterator[tuple[int, Path]]:
    """Where groups with a memory limit can be made here: version and group, version 2 first."""
    found = _hierarchies()
    for hierarchy in sorted(found, key=lambda hierarchy: -hierarchy.version):
        for group in hierarchy.groups:
            if _takes_limits(hierarchy.version, group):
                yield hierarchy.version, group
                break


def remove_stale() -> None:
    """Remove groups left by dead processes, wherever they made them."""
    for hierarchy in _hierarchies():
        for place, names, _ in os.walk(hierarchy.groups[-1]):
            for name in names:
                if (owned := _OWNED.fullmatch(name)) and not is_alive(*map(int, owned.groups())):
                    with contextlib.suppress(OSError):  # another process was faster, or is in it
                        Path(place, name).rmdir()


def _hierarchies() -> list[Hierarchy]:
    try:
        texts = [Path("/proc/self", name).read_text() for name in ("cgroup", "mountinfo")]
    except OSError:  # not Linux, or without /proc
        return []
    return hierarchies(*texts)


def _takes_limits(version: int, parent: Path) -> bool:
    """Whether a child of `parent` would have the file of the limit."""
    child = parent / f"{_PREFIX}{_owner()}-{next(_numbers)}"
    try:
        child.mkdir()
    except OSError:
        return False
    try:
        return os.access(child / _FILES[version].limit, os.W_OK)
    finally:
        child.rmdir()


def _owner() -> str:
    """This process, distinguished from a later one with the same id by its start second."""
    return f"{os.getpid()}-{int(psutil.Process().create_time())}"


def is_alive(process: int, began: int) -> bool:
    """Whether the process with this id is the one that started at about this second."""
    try:
        return bool(abs(psutil.Process(process).create_time() - began) <= 2)
    except psutil.NoSuchProcess:
        return False
