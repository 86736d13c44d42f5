"""ELF files, as far as stand-ins need them: segments, and trimming after the last one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LOADED = 1  # PT_LOAD
_HEADER = 64  # bytes of a 64-bit file's header
# offsets of e_shoff, and of e_shnum, e_shstrndx in the header
_SECTION_OFFSET, _SECTION_COUNT = 40, 60


class Segment(NamedTuple):
    """A row of the program header table: file offset, address and stored bytes of a part."""

    kind: int
    flags: int
    offset: int
    address: int
    bytes: int


def machine(content: bytes) -> int | None:
    """The CPU number of a 64-bit little-endian ELF file; None for other files."""
    if content[:6] != b"\x7fELF\x02\x01" or len(content) < _HEADER:
        return None
    return int(struct.unpack_from("<H", content, 18)[0])


def segments(content: bytes) -> Iterator[Segment]:
    """The segments of an ELF file, the parts that get loaded."""
    (table,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    for index in range(count):
        row = struct.unpack_from("<IIQQQQ", content, table + index * size)
        yield Segment(row[0], row[1], row[2], row[3], row[5])


def drop_unloaded(path: Path) -> None:
    """Cut off debug information and section names after the parts that a library loads."""
    content = path.read_bytes()
    if machine(content) is None:
        return
    end = max((segment.offset + segment.bytes for segment in segments(content)), default=0)
    (sections,) = struct.unpack_from("<Q", content, _SECTION_OFFSET)
    if not _HEADER < end <= sections:
        return
    kept = bytearray(content[:end])
    struct.pack_into("<Q", kept, _SECTION_OFFSET, 0)
    struct.pack_into("<HH", kept, _SECTION_COUNT, 0, 0)
    path.write_bytes(kept)
