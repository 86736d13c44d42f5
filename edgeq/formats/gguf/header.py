"""Read the header of a GGUF file, assuming a malicious author.

No claim of a file is trusted before it is compared with the actual bytes: a count is refused if
that many items cannot fit into the rest of the file, arrays are kept in their encoded form, and
values that take more memory as Python objects than as bytes of the file are limited in number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeq.core.cursor import AGAIN, Cursor
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.values import MetaValue, read_value
from edgeq.quantize.ggml.types import TYPES, GgmlType, by_id, nbytes

__all__ = ["ALIGNMENT", "MAGIC", "Header", "MetaValue", "TensorEntry", "read_header"]

MAGIC = b"GGUF"
# llama.cpp's keys for special tokens, by Hugging Face's. One is misspelt there.
SPECIAL_TOKENS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",
    "pad_token": "padding_token_id",
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}
ALIGNMENT = 32
"""Alignment of tensors' data in bytes unless `general.alignment` states another."""

_MOST_KEYS = _MOST_TENSORS = 1 << 16
_MOST_AXES = 4
_LARGEST_ALIGNMENT = 1 << 20
_LONGEST_LIST = 4096


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """The place of a tensor: shape rows first, `offset` from the start of the file `path`, in
    bytes.
    """

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int
    nbytes: int
    path: Path


@dataclass(frozen=True)
class Header:
    """A file's metadata and tensors; every tensor lies within its file, and no two overlap.

    path: of the first file, if there are several, see `edgeq.formats.gguf.parts`. file_bytes: of
    all.
    """

    path: Path
    version: int
    metadata: dict[str, MetaValue]
    tensors: dict[str, TensorEntry]
    alignment: int
    data_start: int
    file_bytes: int

    @property
    def paths(self) -> list[Path]:
        """Every file of the model, the first one first."""
        return list(dict.fromkeys([self.path, *(each.path for each in self.tensors.values())]))

    def get(self, key: str, default: Any = None) -> Any:
        """The plain value of a metadata key.

        An array of numbers is a list, or the numpy array itself if it has more than 4,096 items: as
        a list it could take many times what it takes in the file.
        """
        found = self.metadata.get(key)
        if found is None:
            return default
        if isinstance(found.value, np.ndarray) and len(found.value) <= _LONGEST_LIST:
            return found.value.tolist()
        return found.value


class _Claim(NamedTuple):
    """A tensor in the header: at byte `at`, its data `offset` after the first tensor's."""

    at: int
    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int


def read_header(path: Path) -> Header:
    """Read and check everything before the tensors' data.

    Raises InvalidInput naming file and byte for anything damaged, contradictory or unknown. Arrays
    take the same memory as in the file; names, texts and entries, which take more as objects, are
    limited to 16 MiB and 2^16 each.
    """
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise InvalidInput(Problem(str(path), what, "name a .gguf file"))
        with path.open("rb") as file:
            return _header(path, Cursor(path, path.stat().st_size, file))
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InvalidInput(Problem(str(path), what, "name a .gguf file")) from None


def _header(path: Path, cursor: Cursor) -> Header:
    if cursor.take(4, "the first word") != MAGIC:
        raise cursor.bad(
            "is not a GGUF file: it does not begin with 'GGUF'", "name a .gguf file", 0
        )
    version = _version(cursor)
    tensors, keys = (cursor.number("uint64", "the number of tensors and keys") for _ in range(2))
    cursor.require(keys, 8 + 4 + 1, _MOST_KEYS, "metadata keys")
    metadata: dict[str, MetaValue] = {}
    for _ in range(keys):
        start = cursor.at
        key = cursor.text("a metadata key")
        if key in metadata:
            raise cursor.bad(f"has the key {key!r} twice", AGAIN, start)
        metadata[key] = read_value(cursor, key)
    alignment = _alignment(cursor, metadata)
    cursor.require(tensors, 8 + 4 + 8 + 4 + 8, _MOST_TENSORS, "tensors")
    claims = [_claim(cursor, alignment) for _ in range(tensors)]
    start = -(-cursor.at // alignment) * alignment
    placed = _placed(cursor, claims, start)
    return Header(path, version, metadata, placed, alignment, start, cursor.size)


def _version(cursor: Cursor) -> int:
    version = cursor.number("uint32", "the version")
    if version in (2, 3):
        return version
    if version and version & 0xFFFF == 0:
        raise cursor.bad("is big-endian", "download or make the little-endian file", 4)
    raise cursor.bad(f"has version {version}; 2 and 3 are supported", "convert the model again", 4)


def _alignment(cursor: Cursor, metadata: dict[str, MetaValue]) -> int:
    found = metadata.get("general.alignment")
    if found is None:
        return ALIGNMENT
    value = found.value
    if found.kind == "uint32" and 1 <= value <= _LARGEST_ALIGNMENT and not value & (value - 1):
        return int(value)
    what = f"general.alignment is {found.kind} {value!r}; it must be a power of two from 1 to 2^20"
    raise cursor.bad(what, AGAIN)


def _claim(cursor: Cursor, alignment: int) -> _Claim:
    start = cursor.at
    name = cursor.text("a tensor's name")
    axes = cursor.number("uint32", repr(name))
    if not 1 <= axes <= _MOST_AXES:
        raise cursor.bad(f"{name!r} has {axes} axes; 1 to {_MOST_AXES} are supported", AGAIN, start)
    lengths = [cursor.number("uint64", repr(name)) for _ in range(axes)]
    id, offset = cursor.number("uint32", repr(name)), cursor.number("uint64", repr(name))
    type = by_id(id)
    if type is None:
        what = f"{name!r} has the unknown type {id}"
        raise cursor.bad(what, f"known: {', '.join(TYPES)}", start)
    # Every value takes at least one bit, so a larger count cannot be in this file.
    if 0 in lengths or math.prod(lengths) > 8 * cursor.size:
        raise cursor.bad(f"{name!r} has the impossible shape {lengths[::-1]}", AGAIN, start)
    if lengths[0] % type.block:
        what = f"{name!r} has rows of {lengths[0]}, which are not whole blocks of {type.name}"
        raise cursor.bad(what, AGAIN, start)
    if offset % alignment:
        what = f"{name!r} begins at {offset}, which is not aligned to {alignment}"
        raise cursor.bad(what, AGAIN, start)
    return _Claim(start, name, tuple(reversed(lengths)), type, offset)


def _placed(cursor: Cursor, claims: list[_Claim], start: int) -> dict[str, TensorEntry]:
    placed: dict[str, TensorEntry] = {}
    for at, name, shape, type, offset in claims:
        entry = TensorEntry(name, shape, type, start + offset, nbytes(type, shape), cursor.path)
        if name in placed:
            raise cursor.bad(f"has the tensor {name!r} twice", AGAIN, at)
        end = entry.offset + entry.nbytes
        if end > cursor.size:
            what = f"{name!r} would end at byte {end}, the file at {cursor.size}"
            raise cursor.bad(what, f"the file is truncated or damaged: {AGAIN}", at)
        placed[name] = entry
    end, before = start, ""
    for entry in sorted(placed.values(), key=lambda item: item.offset):
        if entry.offset < end:
            raise cursor.bad(f"{entry.name!r} overlaps {before!r}", AGAIN, entry.offset)
        end, before = entry.offset + entry.nbytes, entry.name
    return placed
