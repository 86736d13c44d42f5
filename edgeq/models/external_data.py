"""List the external data files of a `.onnx` file before a runtime opens any of them.

Parses only protocol buffers' wire format, so it needs no package, and skips everything else:
weights inside the file are never touched. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from edgeq.core.errors import InvalidInput, Problem

Buffer: TypeAlias = bytes | mmap.mmap
_Part: TypeAlias = tuple[int, int]  # begin and end of a message

# For every message that can contain a tensor, the fields that lead to one.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}
_LOCATION = b"location"  # a message without this word, as most are, names no file
_DEEPEST = 100  # as deep as protobuf itself reads
_AGAIN = "export or download the model again"


class _Damaged(Exception):
    """Not valid protocol buffers."""


def external_files(content: Buffer) -> set[str]:
    """Every location named by a tensor of the model in `content`; ValueError if it is damaged.

    Includes tensors of subgraphs, attributes, local functions and training graphs.
    """
    locations = set()
    try:
        for begin, end in _entries(content, "model", 0, len(content), 0):
            texts = {1: b"", 2: b""}
            for field, start, stop in _parts(content, begin, end):
                texts[field] = content[start:stop]
            if texts[1] == _LOCATION:
                locations.add(texts[2].decode())
    except (_Damaged, IndexError, UnicodeDecodeError):
        raise ValueError("is not a valid ONNX model") from None
    return locations


def require_own_files(model: Path) -> None:
    """Raise InvalidInput if a tensor of `model` is in another folder or a missing file."""
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as all_:
            found = external_files(all_)
    except OSError as error:
        raise InvalidInput(Problem(str(model), f"cannot be read: {error.strerror}")) from None
    except ValueError as error:  # mmap's too: an empty file
        raise InvalidInput(Problem(str(model), f"cannot be opened: {error}", _AGAIN)) from None
    problems = [
        Problem(str(model), f"stores a tensor in {location!r}, {why}", _AGAIN)
        for location in sorted(found)
        if (why := _fault(model.parent, location))
    ]
    if problems:
        raise InvalidInput(problems)


def _fault(folder: Path, location: str) -> str:
    path = PurePosixPath(location)
    plain = location == str(path) and not path.is_absolute() and ".." not in path.parts
    if not plain or any(letter in location for letter in "\\:\0*"):
        return "which may lie outside its folder"
    return "" if (folder / path).is_file() else "which is not next to it"


def _entries(content: Buffer, kind: str, begin: int, end: int, depth: int) -> Iterator[_Part]:
    """Positions of `external_data` entries below a message of `kind`."""
    if depth > _DEEPEST:
        raise _Damaged
    known = _FIELDS[kind]
    for field, start, stop in _parts(content, begin, end):
        inner = known.get(field)
        if inner == "entry":
            yield start, stop
        elif inner is not None and content.find(_LOCATION, start, stop) >= 0:
            yield from _entries(content, inner, start, stop, depth + 1)


def _parts(content: Buffer, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Field number, begin and end of everything in a message that has a length."""
    while at < end:
        tag, at = _varint(content, at)
        wire = tag & 7
        if wire == 2:
            size, at = _varint(content, at)
            if size > end - at:
                raise _Damaged
            yield tag >> 3, at, at + size
            at += size
        elif wire == 0:
            _, at = _varint(content, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise _Damaged
    if at != end:
        raise _Damaged


def _varint(content: Buffer, at: int) -> tuple[int, int]:
    byte = content[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while byte > 127:
        at += 1
        byte = content[at]
        value |= (byte & 127) << shift
        shift += 7
        if shift > 70:
            raise _Damaged
    return value, at + 1
