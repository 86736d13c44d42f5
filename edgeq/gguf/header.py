"""The header of a GGUF file, read as if whoever wrote the file meant harm.

Nothing a file claims is believed before it is compared with the bytes that are there: a count is
refused if that many items cannot fit into the rest of the file, so no claim makes this program hold
more than the file is large.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeq.errors import InvalidInput, Problem
from edgeq.gguf.types import TYPES, GgmlType, by_id, nbytes

MAGIC = b"GGUF"
ALIGNMENT = 32
"""Bytes that tensors' data are aligned to where `general.alignment` does not say otherwise."""

_AGAIN = "download it again, or get it from somewhere else"
_LONGEST_NAME = 4096
_MOST_AXES = 4
_LARGEST_ALIGNMENT = 1 << 20


class Kind(NamedTuple):
    """A kind of metadata value: its number in a file, and how struct and numpy write it."""

    id: int
    code: str
    numpy: str
    size: int


KINDS: dict[str, Kind] = {
    "uint8": Kind(0, "B", "u1", 1),
    "int8": Kind(1, "b", "i1", 1),
    "uint16": Kind(2, "H", "u2", 2),
    "int16": Kind(3, "h", "i2", 2),
    "uint32": Kind(4, "I", "u4", 4),
    "int32": Kind(5, "i", "i4", 4),
    "float32": Kind(6, "f", "f4", 4),
    "bool": Kind(7, "?", "?", 1),
    "string": Kind(8, "", "", 8),
    "array": Kind(9, "", "", 12),
    "uint64": Kind(10, "Q", "u8", 8),
    "int64": Kind(11, "q", "i8", 8),
    "float64": Kind(12, "d", "f8", 8),
}
_KIND_NAMES = {kind.id: name for name, kind in KINDS.items()}


@dataclass(frozen=True)
class MetaValue:
    """A metadata value and the kind it is stored as; of an array, the kind of its elements.

    value: a number, bool or str; of an array a numpy array, or a sequence of str.
    """

    kind: str
    value: Any
    element: str | None = None


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: shape rows first, `offset` from the start of the file, in bytes."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself; every tensor lies within it, and no two overlap."""

    path: Path
    version: int
    metadata: dict[str, MetaValue]
    tensors: dict[str, TensorEntry]
    alignment: int
    data_start: int
    file_bytes: int

    def get(self, key: str, default: Any = None) -> Any:
        """The plain value of a metadata key; arrays of numbers become lists."""
        found = self.metadata.get(key)
        if found is None:
            return default
        return found.value.tolist() if isinstance(found.value, np.ndarray) else found.value


class Strings(Sequence[str]):
    """Strings as they lie in a file, decoded when asked for: a list would take ten times that."""

    def __init__(self, data: bytes, ends: np.ndarray) -> None:
        self._data, self._ends = data, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        start = (int(self._ends[at - 1]) if at else 0) + 8
        return self._data[start : int(self._ends[at])].decode("utf-8", "surrogateescape")


def read_header(path: Path) -> Header:
    """Read and check everything in front of the tensors' data.

    Raises InvalidInput naming file and byte for whatever is damaged, contradictory or unknown.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _Reader(path, size, file).header()
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InvalidInput(Problem(str(path), what, "name a .gguf file")) from None


def _plural(mapping: Mapping[str, Any]) -> str:
    return ", ".join(mapping)


class _Reader:
    """Reads on through a file; `_at` is the next byte."""

    def __init__(self, path: Path, size: int, file: Any) -> None:
        self._path, self._size, self._file = path, size, file
        self._at = 0

    def header(self) -> Header:
        magic = self._take(4, "the magic")
        if magic != MAGIC:
            raise self._bad("is no GGUF file: it does not begin with 'GGUF'", "name a .gguf", 0)
        version = self._number("uint32")
        if version not in (2, 3):
            if version in (2 << 24, 3 << 24):
                raise self._bad("is big-endian", "get the little-endian file", 4)
            raise self._bad(f"has version {version}; 2 and 3 are read", "convert it again", 4)
        tensors, keys = self._number("uint64"), self._number("uint64")
        self._room(keys, 8 + 4 + 1, "metadata keys")
        metadata: dict[str, MetaValue] = {}
        for _ in range(keys):
            start = self._at
            key = self._text("a metadata key", _LONGEST_NAME)
            if key in metadata:
                raise self._bad(f"has the key {key!r} twice", _AGAIN, start)
            metadata[key] = self._value(key)
        self._room(tensors, 8 + 4 + 4 + 8, "tensors")
        alignment = self._alignment(metadata)
        raw = [self._entry() for _ in range(tensors)]
        start = -(-self._at // alignment) * alignment
        placed = self._placed(raw, start, alignment)
        return Header(self._path, version, metadata, placed, alignment, start, self._size)

    def _alignment(self, metadata: dict[str, MetaValue]) -> int:
        found = metadata.get("general.alignment")
        if found is None:
            return ALIGNMENT
        value = found.value
        fits = found.kind == "uint32" and 8 <= value <= _LARGEST_ALIGNMENT
        if not fits or value & (value - 1):
            what = f"general.alignment is {found.kind} {value!r}, no power of two from 8"
            raise self._bad(what, _AGAIN)
        return int(value)

    def _entry(self) -> tuple[int, str, tuple[int, ...], GgmlType, int]:
        start = self._at
        name = self._text("a tensor's name", _LONGEST_NAME)
        axes = self._number("uint32")
        if not 1 <= axes <= _MOST_AXES:
            raise self._bad(f"{name!r} has {axes} axes; 1 to {_MOST_AXES} are read", _AGAIN, start)
        lengths = [self._number("uint64") for _ in range(axes)]
        id, offset = self._number("uint32"), self._number("uint64")
        type = by_id(id)
        if type is None:
            what = f"{name!r} has the type {id}, which is not known"
            raise self._bad(what, f"known: {_plural(TYPES)}", start)
        # No value takes less than a bit, so a larger count cannot be in this file.
        if 0 in lengths or math.prod(lengths) > 8 * self._size:
            raise self._bad(f"{name!r} has the impossible shape {lengths[::-1]}", _AGAIN, start)
        if lengths[0] % type.block:
            what = f"{name!r} has rows of {lengths[0]}, no whole blocks of {type.name}"
            raise self._bad(what, _AGAIN, start)
        return start, name, tuple(reversed(lengths)), type, offset

    def _placed(
        self,
        raw: list[tuple[int, str, tuple[int, ...], GgmlType, int]],
        start: int,
        alignment: int,
    ) -> dict[str, TensorEntry]:
        placed: dict[str, TensorEntry] = {}
        for at, name, shape, type, offset in raw:
            entry = TensorEntry(name, shape, type, start + offset, nbytes(type, shape))
            if name in placed:
                raise self._bad(f"has the tensor {name!r} twice", _AGAIN, at)
            if offset % alignment:
                what = f"{name!r} begins at {offset}, which is not aligned to {alignment}"
                raise self._bad(what, _AGAIN, at)
            if entry.offset + entry.nbytes > self._size:
                what = (
                    f"{name!r} would end at byte {entry.offset + entry.nbytes}, "
                    f"the file at {self._size}"
                )
                raise self._bad(what, "the file is cut off or damaged: " + _AGAIN, at)
            placed[name] = entry
        before: TensorEntry | None = None
        for entry in sorted(placed.values(), key=lambda item: item.offset):
            if before is not None and entry.offset < before.offset + before.nbytes:
                raise self._bad(f"{entry.name!r} lies over {before.name!r}", _AGAIN, entry.offset)
            before = entry
        return placed

    def _value(self, key: str) -> MetaValue:
        start = self._at
        kind = self._kind(key)
        if kind == "string":
            return MetaValue(kind, self._text(key, self._size))
        if kind != "array":
            return MetaValue(kind, self._scalar(kind, key))
        element, count = self._kind(key), self._number("uint64")
        if element == "array":
            raise self._bad(f"{key!r} is an array of arrays", _AGAIN, start)
        self._room(count, KINDS[element].size, f"items in {key!r}")
        if element == "string":
            return MetaValue(kind, self._strings(count, key), element)
        held = self._take(count * KINDS[element].size, key)
        if element == "bool" and held.strip(b"\0\1"):
            raise self._bad(f"{key!r} has a bool that is neither 0 nor 1", _AGAIN, start)
        return MetaValue(kind, np.frombuffer(held, f"<{KINDS[element].numpy}"), element)

    def _strings(self, count: int, key: str) -> Strings:
        start = self._at
        ends = np.empty(count, np.int64)
        for index in range(count):
            at = self._at
            length = self._number("uint64")
            if length > self._size - self._at:
                what = f"item {index} of {key!r} claims {length} bytes"
                raise self._bad(f"{what}, the file has {self._size - self._at} left", _AGAIN, at)
            self._skip(length)
            ends[index] = self._at - start
        self._file.seek(start)
        data = self._file.read(self._at - start)
        return Strings(data, ends)

    def _kind(self, key: str) -> str:
        start = self._at
        id = self._number("uint32")
        if id not in _KIND_NAMES:
            raise self._bad(f"{key!r} has a value of unknown kind {id}", _AGAIN, start)
        return _KIND_NAMES[id]

    def _scalar(self, kind: str, key: str) -> Any:
        start = self._at
        held = self._take(KINDS[kind].size, key)
        if kind == "bool" and held not in (b"\0", b"\1"):
            raise self._bad(f"{key!r} is a bool that is neither 0 nor 1", _AGAIN, start)
        return struct.unpack(f"<{KINDS[kind].code}", held)[0]

    def _number(self, kind: str) -> int:
        return int(self._scalar(kind, "a number"))

    def _text(self, what: str, longest: int) -> str:
        start = self._at
        length = self._number("uint64")
        if length > min(longest, self._size - self._at):
            told = f"{what} claims {length} bytes, the file has {self._size - self._at} left"
            raise self._bad(told, _AGAIN, start)
        try:
            return self._take(length, what).decode()
        except UnicodeDecodeError:
            raise self._bad(f"{what} is not UTF-8", _AGAIN, start) from None

    def _room(self, count: int, least: int, what: str) -> None:
        if count * least > self._size - self._at:
            told = f"claims {count} {what}, which cannot fit into {self._size - self._at} bytes"
            raise self._bad(told, _AGAIN)

    def _take(self, count: int, what: str) -> bytes:
        held: bytes = self._file.read(count) if count <= self._size - self._at else b""
        if len(held) != count:
            raise self._bad(f"ends in the middle of {what}", "it is cut off: " + _AGAIN)
        self._at += count
        return held

    def _skip(self, count: int) -> None:
        self._file.seek(count, 1)
        self._at += count

    def _bad(self, what: str, remedy: str, at: int | None = None) -> InvalidInput:
        where = f"{self._path}: byte {self._at if at is None else at}"
        return InvalidInput(Problem(where, what, remedy))
