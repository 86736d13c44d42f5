"""Metadata values of GGUF files: their types, and compact storage."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.core.cursor import AGAIN, Cursor

_MOST_STRINGS = 1 << 24  # items of one array; the largest vocabularies have 2^18 tokens
_STRIDE = 256  # step of the index into an array of strings
_WINDOW = 1 << 20
_LENGTH = struct.Struct("<Q")


class Kind(NamedTuple):
    """A type of metadata value: its number in a file, and its struct and numpy formats.

    size: bytes of a value; for strings and arrays the minimum.
    """

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
_NAMES = {kind.id: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class MetaValue:
    """A metadata value and its stored type; for an array, `element` is that of its items.

    value: a number, bool or str; for an array of numbers a numpy array or a sequence, for an array
    of strings a sequence of str.
    """

    kind: str
    value: Any
    element: str | None = None


def whole_number(value: int) -> MetaValue:
    """A count, as uint32."""
    return MetaValue("uint32", int(value))


def real_number(value: float) -> MetaValue:
    """A number with a fraction, as float32."""
    return MetaValue("float32", float(value))


class Strings(Sequence[str]):
    """The strings of an array in their encoded form, decoded one by one on access.

    A list of them would take many times the file's bytes. Bytes that are not UTF-8 (vocabularies
    have tokens that are parts of characters) become surrogates, which the writer turns back.
    """

    def __init__(self, data: bytes, count: int, marks: NDArray[np.int64]) -> None:
        self._data, self._count, self._marks = data, count, marks

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return self._from(0)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        at = range(self._count)[index]
        items = self._from(at // _STRIDE)
        for _ in range(at % _STRIDE):
            next(items)
        return next(items)

    def _from(self, mark: int) -> Iterator[str]:
        if mark * _STRIDE >= self._count:
            return
        at = int(self._marks[mark])
        for _ in range(mark * _STRIDE, self._count):
            end = at + 8 + _LENGTH.unpack_from(self._data, at)[0]
            yield self._data[at + 8 : end].decode("utf-8", "surrogateescape")
            at = end


def read_value(cursor: Cursor, key: str) -> MetaValue:
    """The value of `key` at the cursor. Raises InvalidInput."""
    start = cursor.at
    kind = _kind(cursor, key)
    if kind == "string":
        return MetaValue(kind, cursor.text(repr(key)))
    if kind != "array":
        raw = cursor.take(KINDS[kind].size, repr(key))
        if kind == "bool" and raw not in (b"\0", b"\1"):
            raise cursor.bad(f"{key!r} is a bool that is neither 0 nor 1", AGAIN, start)
        return MetaValue(kind, struct.unpack(f"<{KINDS[kind].code}", raw)[0])
    element, count = _kind(cursor, key), cursor.number("uint64", repr(key))
    if element == "array":
        raise cursor.bad(f"{key!r} is an array of arrays, which is not supported", AGAIN, start)
    cursor.require(count, KINDS[element].size, cursor.size, f"items in {key!r}")
    if element == "string":
        return MetaValue(kind, _strings(cursor, count, key), element)
    items = cursor.take(count * KINDS[element].size, repr(key))
    if element == "bool" and count and np.frombuffer(items, np.uint8).max() > 1:
        raise cursor.bad(f"{key!r} has a bool that is neither 0 nor 1", AGAIN, start)
    return MetaValue(kind, np.frombuffer(items, f"<{KINDS[element].numpy}"), element)


def _kind(cursor: Cursor, key: str) -> str:
    start = cursor.at
    id = cursor.number("uint32", repr(key))
    if id not in _NAMES:
        raise cursor.bad(f"{key!r} has a value of unknown kind {id}", AGAIN, start)
    return _NAMES[id]


def _strings(cursor: Cursor, count: int, key: str) -> Strings:
    """Find their ends with a sliding window, then read their bytes once."""
    cursor.require(count, KINDS["string"].size, _MOST_STRINGS, f"strings in {key!r}")
    start = at = cursor.at
    marks = np.empty(-(-count // _STRIDE), np.int64)
    window, base = b"", start
    for index in range(count):
        if not index % _STRIDE:
            marks[index // _STRIDE] = at - start
        if at + 8 > base + len(window):
            window, base = cursor.peek(at, _WINDOW), at
            if len(window) < 8:
                what = f"ends within item {index} of {key!r}"
                raise cursor.bad(what, f"it is truncated: {AGAIN}", at)
        length = _LENGTH.unpack_from(window, at - base)[0]
        if length > cursor.size - at - 8:
            what = f"item {index} of {key!r} claims {length} bytes"
            raise cursor.bad(f"{what}, the file has {cursor.size - at - 8} left", AGAIN, at)
        at += 8 + length
    return Strings(cursor.take(at - start, repr(key)), count, marks)
