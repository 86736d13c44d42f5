"""Files out of the page cache, so that whoever reads them next pays for them.

A control group is charged for a page of a file when it is the first to touch it, and only while
that page stays in memory: of files that are warm already, a group maps all it likes for free.
Measured on a full-precision MiniLM of 86 MiB: a group was charged for 50 MiB at most when the files
were warm, for 263 MiB when they were dropped before, and hashing had read them besides.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path


def drop(paths: Iterable[Path]) -> int:
    """Have the system forget the pages of each file; the bytes that stayed in memory all the same.

    Pages stay that another process maps, and those of file systems that live in memory (tmpfs).
    Linux only. A file that is gone or cannot be read has none to drop.
    """
    return sum(map(_drop, paths))


def files_below(directory: Path) -> list[Path]:
    """Every regular file in `directory`, at any depth; none if it is not there."""
    return [path for path in sorted(directory.rglob("*")) if path.is_file()]


def _drop(path: Path) -> int:
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what was not written to disk yet cannot be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return _resident(file.fileno())
    except OSError:
        return 0


def _resident(descriptor: int) -> int:
    """How much of an open file is in memory, in bytes, by mincore(2)."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return 0
    pages = -(-size // mmap.PAGESIZE)
    states = (ctypes.c_ubyte * pages)()
    # A private writable mapping, because only of such ones Python tells where they lie.
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY) as mapped:
        view = ctypes.c_char.from_buffer(mapped)
        library = ctypes.CDLL(None, use_errno=True)
        address, length = ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size)
        failed = library.mincore(address, length, states)
        del view  # or the mapping could not be closed
    if failed:
        raise OSError(ctypes.get_errno(), "mincore failed")
    return sum(state & 1 for state in states) * mmap.PAGESIZE
