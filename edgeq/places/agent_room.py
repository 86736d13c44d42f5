"""The temporary directory of a session on another machine.

Sent to the other machine as text, so only the standard library is imported.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

_TAKE_OVER_SECONDS = 10.0


class Room:
    """The temporary directory of a session, locked while an agent lives; stale ones are removed."""

    def __init__(self, directory: str | None, session: str) -> None:
        self._above = _directories(directory)
        self._base = base = self._above[0]
        self.path = base / session
        self._lock_path = base / f"{session}.lock"
        self._lock = self._claim()
        self._sweep()
        self.path.mkdir(mode=0o700, exist_ok=True)  # nobody else may read the copied files
        for name in ("files", "runs", "cache", "tmp"):
            (self.path / name).mkdir(mode=0o700, exist_ok=True)

    def _claim(self) -> int:
        """Lock the session; an older agent that still holds the lock is asked to leave first."""
        deadline = time.monotonic() + _TAKE_OVER_SECONDS
        while time.monotonic() < deadline:
            self._base.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another agent just cleaned up
                lock = _try_lock(self._lock_path)
                if lock is not None:
                    os.ftruncate(lock, 0)
                    os.write(lock, str(os.getpid()).encode())
                    return lock
                with contextlib.suppress(ValueError, ProcessLookupError):
                    os.kill(int(self._lock_path.read_text()), signal.SIGTERM)
            time.sleep(0.05)
        raise TimeoutError(errno.ETIMEDOUT, "an older process still uses it", str(self.path))

    def _sweep(self) -> None:
        """Remove the directories of sessions whose agent is dead."""
        for path in self._base.glob("*.lock"):
            with contextlib.suppress(OSError):
                lock = _try_lock(path)
                if lock is not None:
                    self._discard(path.with_suffix(""))
                    path.unlink()
                    os.close(lock)

    def remove(self) -> None:
        """Remove everything written, and the directories above that are then empty."""
        self._discard(self.path)
        with contextlib.suppress(OSError):
            self._lock_path.unlink()
            for directory in self._above:
                directory.rmdir()  # fails if it is not empty, which ends the loop

    def _discard(self, directory: Path) -> None:
        """Rename it, then remove it: if interrupted, it must not look resumable."""
        with contextlib.suppress(OSError):  # it never existed, or was already renamed
            directory.rename(directory.with_suffix(".gone"))
        for gone in self._base.glob("*.gone"):
            shutil.rmtree(gone, ignore_errors=True)

    def file(self, sha256: str) -> Path:
        """The path of the file with this hash."""
        return self.path / "files" / sha256

    def part(self, sha256: str) -> Path:
        """The path of a partial copy."""
        return self.path / "files" / f"{sha256}.part"


def _try_lock(path: Path) -> int | None:
    """The open, locked file, or None if another process holds the lock."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its owner may have removed it between opening and locking.
        if path.stat().st_ino == os.fstat(lock).st_ino:
            return lock
    except BlockingIOError:
        pass
    except FileNotFoundError:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _directories(asked: str | None) -> tuple[Path, ...]:
    """Where temporary directories go, and those above that may be removed with the last of them.

    As requested, else the user's cache, else any writable directory.
    """
    if asked:
        return (Path(asked) / "edgeq-reach",)
    home = Path("~/.cache").expanduser()
    chosen = os.environ.get("XDG_CACHE_HOME")
    candidates = [Path(chosen) if chosen else home, Path("/data/local/tmp")]  # the second: Android
    candidates.append(Path(tempfile.gettempdir()))
    for cache in candidates:
        nearest = next(path for path in (cache, *cache.parents) if path.exists())
        if os.access(nearest, os.W_OK | os.X_OK):
            edgeq = cache / "edgeq"
            return (edgeq / "reach", edgeq, cache) if cache == home else (edgeq / "reach", edgeq)
    raise PermissionError(errno.EACCES, "no directory is writable", ", ".join(map(str, candidates)))
