"""Temporary directories that do not outlive a killed process for long: the next one removes them.

A directory is locked for as long as the process that made it lives. The system drops the lock when
that process ends, however it ends, so a directory that can be locked belongs to nobody: numbers of
processes, which are given again and mean nothing in another container, are not asked.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path

_PREFIX = "edgeq-tmp-"
_NAME = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """A directory for this user alone, removed at the end of a `with` block or of the process.

    >>> with TemporaryFolder() as folder:
    ...     Path(folder, "large").touch()
    """

    def __init__(self) -> None:
        _sweep_once()
        while True:
            super().__init__(prefix=_PREFIX, ignore_cleanup_errors=True)
            try:
                lock = _lock(Path(self.name))
            except (BlockingIOError, FileNotFoundError):  # swept before it was locked
                self.cleanup()
            except OSError:  # a file system without locks: directories of this name are never swept
                self.cleanup()
                super().__init__(prefix="edgeq-", ignore_cleanup_errors=True)
                return
            else:
                weakref.finalize(self, os.close, lock)
                return


def sweep() -> None:
    """Remove leftovers of this user's killed processes from the folder for temporary files."""
    with contextlib.suppress(OSError):
        for path in Path(tempfile.gettempdir()).iterdir():
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):  # another user's, or in use
                    _remove_unlocked(path)


@functools.cache
def _sweep_once() -> None:
    sweep()


def _remove_unlocked(path: Path) -> None:
    lock = _lock(path)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


def _lock(path: Path) -> int:
    """The open, locked directory; raises OSError if it is already locked or cannot be."""
    if os.name != "posix":
        raise OSError("directories cannot be locked here")
    import fcntl

    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino != os.fstat(lock).st_ino:
            raise FileNotFoundError(path)
    except OSError:
        os.close(lock)
        raise
    return lock
