"""Read an untrusted file sequentially: every claim is compared with the bytes that exist."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from edgeq.core.errors import InvalidInput, Problem

AGAIN = "download it again, or get it from another source"
# bytes of names and texts in a header; decoded, they can take four times as much
_MOST_TEXT = 16 << 20
_NUMBERS = {"uint32": struct.Struct("<I"), "uint64": struct.Struct("<Q")}


class Cursor:
    """A position in the file `path` of `size` bytes, opened as `file`; `at` is the next byte."""

    def __init__(self, path: Path, size: int, file: BinaryIO) -> None:
        self.path, self.size, self._file = path, size, file
        self.at = 0
        self._text = 0

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return self.size - self.at

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes. Raises InvalidInput if the file ends before."""
        content = self._file.read(count) if count <= self.left else b""
        if len(content) != count:
            raise self.bad(f"ends within {what}", f"it is truncated: {AGAIN}")
        self.at += count
        return content

    def peek(self, at: int, count: int) -> bytes:
        """Read at most `count` bytes from `at` without moving."""
        self._file.seek(at)
        content = self._file.read(count)
        self._file.seek(self.at)
        return content

    def number(self, kind: str, what: str) -> int:
        """A `uint32` or a `uint64`."""
        layout = _NUMBERS[kind]
        return int(layout.unpack(self.take(layout.size, what))[0])

    def text(self, what: str) -> str:
        """A string: its length and that many bytes of UTF-8."""
        start = self.at
        length = self.number("uint64", what)
        if length > self.left:
            what_is_wrong = f"{what} claims {length} bytes, the file has {self.left} left"
            raise self.bad(what_is_wrong, AGAIN, start)
        self._text += length
        if self._text > _MOST_TEXT:
            what_is_wrong = (
                f"{what} increases names and texts to {self._text} bytes; {_MOST_TEXT} are allowed"
            )
            raise self.bad(what_is_wrong, AGAIN, start)
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError:
            raise self.bad(f"{what} is not UTF-8", AGAIN, start) from None

    def require(self, count: int, least: int, most: int, what: str) -> None:
        """Refuse `count` items, of `least` bytes or more, that cannot fit or exceed `most`."""
        if count * least > self.left:
            what_is_wrong = (
                f"claims {count} {what}, which cannot fit into the {self.left} bytes left"
            )
            raise self.bad(what_is_wrong, AGAIN)
        if count > most:
            raise self.bad(f"claims {count} {what}, more than the limit of {most}", AGAIN)

    def bad(self, what: str, remedy: str, at: int | None = None) -> InvalidInput:
        """The error for a problem at byte `at`, or at the current one."""
        where = f"{self.path}: byte {self.at if at is None else at}"
        return InvalidInput(Problem(where, what, remedy))
