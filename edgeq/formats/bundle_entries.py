"""The entries of a bundle's archive, determined before any of it is read: names, places and sizes.

An archive of `edgeq.formats.bundle_zip` is far simpler than a `.zip` may be: entries are stored,
are contiguous from the first byte on, and end where the directory begins. Other features of a
`.zip` (compression, encryption, several disks, gaps, overlaps) are refused, so that no entry can be
larger than the file or mean two things to two readers.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgeq.core.errors import InvalidInput, Problem

COMMENT = b"edgeq-sha256:"
"""Prefix of the archive's comment; 64 hexadecimal digits follow."""
COMMENT_BYTES = len(COMMENT) + 64
FETCH_AGAIN = "build or download it again; a changed bundle is never loaded"

# .ZIP File Format Specification 4.3.16, 4.3.12 and 4.3.7.
_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_UTF8 = 0x800  # the one flag that changes nothing about the data
_MOST_ENTRIES = 4096
_LARGEST_DIRECTORY = 1 << 20


class _Strange(Exception):
    """Content that edgeq would not have written; the message says what."""


@dataclass(frozen=True)
class Entry:
    """A file in the archive: its bytes start at `start`. plain: neither a link nor a folder."""

    name: str
    start: int
    size: int
    plain: bool


def read_entries(path: Path) -> tuple[Entry, ...]:
    """Every entry of the archive `path`, in file order. Raises InvalidInput."""
    try:
        with path.open("rb") as file:
            return tuple(_entries(file))
    except OSError as error:
        raise InvalidInput(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    except (_Strange, struct.error) as error:
        what = f"is not a bundle that can be read: {error}"
        raise InvalidInput(Problem(str(path), what, FETCH_AGAIN)) from None


def _entries(file: IO[bytes]) -> Iterator[Entry]:
    begin, end = 0, file.seek(0, 2) - _END.size - COMMENT_BYTES
    directory, count, start = _directory(file, end)
    at = 0
    for index in range(count):
        name, size, offset, plain, at = _central(directory, at)
        if offset != begin:
            raise _Strange(f"entry {index} does not start where the one before it ends")
        data = _data(file, offset, name, size)
        begin = data + size
        if begin > start:
            raise _Strange(f"entry {index} reaches into the directory")
        yield Entry(name.decode("utf-8", "replace"), data, size, plain)
    if at != len(directory) or begin != start:
        raise _Strange("some bytes belong to no entry")


def _directory(file: IO[bytes], end: int) -> tuple[bytes, int, int]:
    """The central directory, its number of entries, and where it begins; it ends at `end`."""
    if end < 0:
        raise _Strange("it is too short")
    file.seek(end)
    mark, disk, first, here, count, size, start, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\5\6" or comment != COMMENT_BYTES or (disk, first, here) != (0, 0, count):
        raise _Strange("it does not end as a bundle does")
    if count > _MOST_ENTRIES or size > _LARGEST_DIRECTORY:
        raise _Strange(f"it claims {count} entries, described in {size} bytes")
    if start + size != end:
        raise _Strange("its directory is not at its end")
    file.seek(start)
    return file.read(size), count, start


def _central(directory: bytes, at: int) -> tuple[bytes, int, int, bool, int]:
    """Name, size, offset, whether it is a plain file, and where the next description begins."""
    fields = _CENTRAL.unpack_from(directory, at)
    mark, _, _, flags, method, _, _, _, stored, size, name, extra, comment, disk = fields[:14]
    mode, offset = fields[15] >> 16, fields[16]
    if mark != b"PK\1\2" or disk or extra or comment or flags & ~_UTF8:
        raise _Strange("its directory has an invalid entry")
    if method or stored != size:
        raise _Strange("an entry is compressed; those of a bundle are stored")
    end = at + _CENTRAL.size + name
    plain = stat.S_IFMT(mode) in (0, stat.S_IFREG)
    return directory[at + _CENTRAL.size : end], size, offset, plain, end


def _data(file: IO[bytes], offset: int, name: bytes, size: int) -> int:
    """Where an entry's bytes begin; its own header must agree with the directory."""
    file.seek(offset)
    mark, _, flags, method, _, _, _, stored, full, length, extra = _LOCAL.unpack(
        file.read(_LOCAL.size)
    )
    same = length == len(name) and file.read(length) == name
    if mark != b"PK\3\4" or method or flags & ~_UTF8 or not same or (stored, full) != (size, size):
        raise _Strange("an entry's own header differs from the directory")
    return offset + _LOCAL.size + len(name) + int(extra)
