"""The build store: each stage's result in a directory named by the hash of all that went in.

A stage is made under a lock, in a directory next to its place, flushed to disk and renamed, so that
a result is either there whole or not at all: whoever is killed leaves only a `.partial` directory,
which the next one to make that stage removes. A result whose bytes are not those that were made,
as after a power cut on a disk that lost flushed data, is removed and made again.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock

from edgeq.core import canonical
from edgeq.core.artifact import STAGE_FILE, seal, unseal
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.files import flush_directory, flush_tree, others_can_write, write_text
from edgeq.core.steps import Steps

_State: TypeAlias = "dict[str, tuple[int, int, int]]"
MANIFEST = STAGE_FILE
_PACKAGE = Path(__file__).parents[1]
_STORE = Path(".edgeq")
DECISIVE_ROOMS = (
    "core",
    "devices",
    "estimate",
    "formats",
    "measure",
    "models",
    "places",
    "quantize",
    "recipe",
    "pipeline/allocate",
    "pipeline/build",
    "pipeline/distil",
    "pipeline/plan",
    "pipeline/proof",
    "pipeline/learn",
    "pipeline/recover",
)
"""The folders of edgeq whose code can change a result; editing any other keeps every key."""


@functools.cache
def code_version() -> str:
    """SHA-256 over the source of the decisive rooms."""
    digest = hashlib.sha256()
    files = (path for room in DECISIVE_ROOMS for path in (_PACKAGE / room).rglob("*.py"))
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def default_root() -> Path:
    """`EDGEQ_STORE`, or the nearest `.edgeq` of this user, from the current directory upwards.
    Without either, `.edgeq` in the current directory.
    Thus a project's subdirectories share its store.
    """
    if named := os.environ.get("EDGEQ_STORE"):
        # A `~` that no shell expanded; unlike Path.expanduser, it passes without a home.
        return Path(os.path.expanduser(named))  # noqa: PTH111
    here = Path.cwd()
    above = (folder / _STORE for folder in here.parents)
    nearest = _STORE if _STORE.is_dir() else next(filter(_is_mine, above), _STORE)
    return Path(nearest)


def _is_mine(folder: Path) -> bool:
    """Whether `folder` is a directory of this user; another user's may contain anything."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    mine = os.name != "posix" or status.st_uid == os.geteuid()
    return stat.S_ISDIR(status.st_mode) and mine


class Store:
    """Results of stages under `root`, as `<root>/<stage>/<SHA-256 of its inputs>/`.

    `version` stands for the code that makes them; by default `code_version()`. Results are not
    made read-only (root ignores that, Windows could not delete them): hashes are compared at the
    first hit, and again when a file's size or time of change differs. A `private` store is made for
    this user alone, and what others can write is made again.

    >>> store = Store(Path(".edgeq"))
    >>> store.stage("greet", {"name": "a"}, lambda to: to.joinpath("a").touch())  # doctest: +SKIP
    PosixPath('.edgeq/greet/1c3b…')
    """

    def __init__(
        self, root: Path | None = None, *, version: str | None = None, private: bool = False
    ) -> None:
        self.root = root or default_root()
        self.version = version or code_version()
        self._private = private
        self._verified: dict[Path, _State] = {}

    def place(self, name: str, key: Mapping[str, Any]) -> Path:
        """Where the result of stage `name` for inputs `key` (plain JSON values) lies, once made."""
        inputs = {"name": name, "key": dict(key), "code": self.version}
        return self.root / name / canonical.sha256_of(inputs)

    def find(self, name: str, key: Mapping[str, Any]) -> Path | None:
        """The result of a stage if it is there whole."""
        place = self.place(name, key)
        return place if self._is_whole(place) else None

    def stage(
        self,
        name: str,
        key: Mapping[str, Any],
        make: Callable[[Path], None],
        *,
        describe: str | None = None,
        verify: bool = True,
    ) -> Path:
        """The result of a stage, made now by `make(directory)` if it is not there whole.

        `key` must hold everything the result depends on but the code. Of two processes that want
        the same result one makes it and the other waits. `describe` tells readers of the store
        what the result is. Without `verify` the caller has compared its bytes. If `make` raises,
        nothing is left. Raises Missing when the disk is full and InvalidInput when the store cannot
        be written.
        """
        place = self.place(name, key)
        facts = {"name": name, "key": dict(key), "what": describe}
        if self._is_whole(place, verify):
            return place
        with self._errors_of_disk():
            self._create_root()
            if self._private and place.parent.exists() and others_can_write(place.parent):
                shutil.rmtree(place.parent)
            place.parent.mkdir(mode=self._mode, exist_ok=True)
            with FileLock(place.with_suffix(".lock")):
                if not self._is_whole(place, verify):
                    _make(place, make, facts, self._mode)
        return place

    @contextlib.contextmanager
    def workplace(self, name: str, key: Mapping[str, Any]) -> Iterator[Steps]:
        """The finished steps of a long stage, kept until the stage is complete.

        For use inside `make` of the same stage: what an ended process left there is found again.
        """
        place = self.place(name, key).with_suffix(".steps")
        place.mkdir(parents=True, exist_ok=True)
        yield Steps(place)
        shutil.rmtree(place, ignore_errors=True)

    @property
    def _mode(self) -> int:
        """The mode of directories that are made."""
        return 0o700 if self._private else 0o777

    def _create_root(self) -> None:
        if not self.root.is_dir():
            self.root.mkdir(parents=True, exist_ok=True)
            write_text(self.root / ".gitignore", "*\n")

    def _is_whole(self, place: Path, verify: bool = True) -> bool:
        """Whether every file is there as it was made."""
        try:
            files = unseal((place / MANIFEST).read_bytes(), str(place))["files"]
            if self._private and not _is_private(place, files):
                return False
            state = _state(place, files)
            if any(size != files[name]["bytes"] for name, (size, _, _) in state.items()):
                return False
            if verify and self._verified.get(place) != state:
                for name, record in files.items():
                    if canonical.sha256_of_file(place / name) != record["sha256"]:
                        return False
                self._verified[place] = state
        except (OSError, InvalidInput):
            return False
        return True

    @contextlib.contextmanager
    def _errors_of_disk(self) -> Iterator[None]:
        remedy = "choose another directory with EDGEQ_STORE (EDGEQ_CACHE for prepared copies)"
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                what = f"the disk is full: {error.strerror}"
                remedy = f"free some space or {remedy}"
                raise Missing(Problem(str(self.root), what, remedy)) from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
                what = f"cannot be written: {error.strerror}"
                raise InvalidInput(Problem(str(self.root), what, remedy)) from error
            raise


def _make(place: Path, make: Callable[[Path], None], facts: Mapping[str, Any], mode: int) -> None:
    """Make a result next to `place` and rename it; the caller holds the lock for `place`."""
    partial = place.with_suffix(".partial")
    for leftover in (partial, place):  # of a killed process, or damaged
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    partial.mkdir(mode=mode)
    try:
        make(partial)
        files = {name: _record(partial / name) for name in _files(partial)}
        if MANIFEST in files:
            raise ValueError(f"a stage cannot hold a file named {MANIFEST}")
        (partial / MANIFEST).write_bytes(seal({**facts, "files": files}))
        flush_tree(partial)
        partial.rename(place)
        flush_directory(place.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _is_private(place: Path, files: Iterable[str]) -> bool:
    """Whether no other user can change what lies in a result."""
    if others_can_write(place.parent) or others_can_write(place):
        return False
    if not place.stat().st_mode & 0o077:  # nobody else gets in
        return True
    inside = {path for name in files for path in (place / name, (place / name).parent)}
    return not any(map(others_can_write, inside))


def _state(place: Path, files: Iterable[str]) -> _State:
    """The facts that change with a file: size, time and inode, by name."""
    found = {name: (place / name).stat() for name in files}
    return {name: (each.st_size, each.st_mtime_ns, each.st_ino) for name, each in found.items()}


def _record(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": canonical.sha256_of_file(path)}


def _files(directory: Path) -> list[str]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return sorted(path.relative_to(directory).as_posix() for path in paths)
