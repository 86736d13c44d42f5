"""Files on disk: written atomically, and read within limits."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from edgeq.core.errors import EdgeqError, InvalidInput, Missing, Problem
from edgeq.core.units import format_bytes

_FULL = {errno.ENOSPC, errno.EDQUOT}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
_LONGEST_STEM = 100  # bytes of a temporary name; file systems allow 255 for all of it
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def writable(path: Path, option: str, suffix: str = "") -> None:
    """Check, before any work, that `path` can be written; `option` is what errors name.

    suffix: the required suffix, `.zip`; any if empty.
    """
    kind = _kind(path)
    if kind:
        raise InvalidInput(Problem(option, f"{path} is {kind}", "name a file"))
    if path.suffix.lower() != suffix and suffix:
        what = f"{path} does not end in {suffix}, the format that is written"
        raise InvalidInput(Problem(option, what, f"write: {option} {path.with_suffix(suffix)}"))
    if not path.parent.is_dir():
        what = f"the directory {path.parent} does not exist"
        raise InvalidInput(Problem(option, what, "create it, or name another"))
    trial = _temporary(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.stat()  # detects a name that is too long
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise error_of_disk(error, path, option) from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a unique name next to `path` for a file or directory that replaces it once complete.

    The content is flushed to disk before the rename. If the body raises, the old content stays. A
    link is followed. Raises InvalidInput or Missing if the disk fails.

    >>> with replacing(Path("out.bin")) as partial:  # doctest: +SKIP
    ...     partial.write_bytes(b"all of it")
    """
    place = Path(os.path.realpath(path))
    partial = _temporary(place)
    _sweep(place)
    try:
        yield partial
        flush_tree(partial) if partial.is_dir() else flush_file(partial)
        if place.is_dir():
            shutil.rmtree(place)
        partial.replace(place)
        flush_directory(place.parent)
    except OSError as error:
        if error.filename is None or str(error.filename).startswith((str(partial), str(place))):
            raise error_of_disk(error, path) from error
        raise  # of another file, which the body reads
    finally:
        _remove(partial)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, see `replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8 with the line ends of `text`, see `replacing`."""
    write_bytes(path, text.encode())


def read_head(path: Path, size: int) -> bytes:
    """The first `size` bytes of a regular file, or all of a shorter one.

    Raises InvalidInput for anything else: a directory, a named pipe (which would block), a device.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise unreadable(path, error) from None


def read_bytes(path: Path, limit: int, remedy: str) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises InvalidInput for a larger one, and as `read_head`.
    """
    content = read_head(path, limit + 1)
    if len(content) > limit:
        raise InvalidInput(Problem(str(path), f"is larger than {format_bytes(limit)}", remedy))
    return content


def unreadable(path: Path, error: OSError) -> InvalidInput:
    """The error for a file that is there and cannot be read."""
    remedy = "check its permissions and those of its directory"
    return InvalidInput(Problem(str(path), f"cannot be read: {error.strerror}", remedy))


def require_file(path: Path) -> None:
    """Raise InvalidInput if `path` exists and is not a regular file."""
    kind = _kind(path)
    if kind:
        raise InvalidInput(Problem(str(path), f"cannot be read: it is {kind}", "name a file"))


def require_utf8(name: str, where: str) -> None:
    """Raise InvalidInput for bytes that are not UTF-8, which JSON cannot hold."""
    if not name.isascii() and any("\ud800" <= each <= "\udfff" for each in name):
        raise InvalidInput(Problem(where, "is not UTF-8", "rename it, or type the text in UTF-8"))


def error_of_disk(error: OSError, path: Path, where: str = "") -> EdgeqError:
    """The error to show for a file that cannot be written: Missing if the disk is full."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        what = f"cannot be written: the disk is full ({reason})"
        return Missing(Problem(where or str(path), what, "free some space, or name another disk"))
    what = f"{path} cannot be written: {reason}" if where else f"cannot be written: {reason}"
    kind = Missing if is_system_error(error) else InvalidInput
    return kind(Problem(where or str(path), what, "name a writable file"))


def is_system_error(error: OSError) -> bool:
    """Whether no other file would help: the disk, memory or handles are exhausted, or broken."""
    return error.errno in _FULL | _EXHAUSTED


def others_can_write(path: Path) -> str:
    """Why another user could change what lies at `path`; empty if none can, or it is not known."""
    if os.name != "posix":
        return ""
    about = path.stat()
    if about.st_uid not in (0, os.geteuid()):
        return "belongs to another user"
    return "can be written by other users" if about.st_mode & 0o022 else ""


def flush_tree(directory: Path) -> None:
    """Flush every file and directory below `directory` to disk."""
    for path in directory.rglob("*"):
        flush_directory(path) if path.is_dir() else flush_file(path)
    flush_directory(directory)


def flush_directory(directory: Path) -> None:
    """Flush the names in `directory` to disk."""
    if os.name != "posix":  # other systems cannot open a directory to flush it
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_file(path: Path) -> None:
    """Flush the content of a file to disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _temporary(path: Path) -> Path:
    """A new name next to `path`, with its suffix: some writers add a missing suffix."""
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f"{_stem(path)}{unique}.partial{path.suffix[-9:]}")


def _stem(path: Path) -> str:
    return f".{path.name[:_LONGEST_STEM]}."


def _sweep(path: Path) -> None:
    """Remove leftovers of killed processes from earlier attempts at `path`."""
    stem = _stem(path)
    with contextlib.suppress(OSError):
        for leftover in path.parent.iterdir():
            writer = re.fullmatch(r"(\d+)-[0-9a-f]{8}\.partial.*", leftover.name[len(stem) :])
            if leftover.name.startswith(stem) and writer and not _is_running(int(writer[1])):
                _remove(leftover)


def _is_running(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _kind(path: Path) -> str | None:
    """The kind of `path` if it is not a regular file; None if it is, or cannot be accessed."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):  # a name with a null byte
        return None
