"""weight.bin: Core ML's blob storage, version 2.

A header of 64 bytes (count of blobs, version) is followed by blobs. Each blob is a metadata record
of 64 bytes at a multiple of 64 (sentinel, type, size in bytes, offset of the data, bits of padding)
and its data. A program names a blob by the offset of its metadata record. Everything is little
endian. Values of less than a byte are contiguous, each starting at the lowest free bit of the
current byte; one that does not fit continues in the lowest bits of the next. (Source:
MILBlob/Blob/StorageFormat.hpp and SubByteTypes.cpp of coremltools.)
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.coreml.executor.types import BY_NAME, Array, ElementType

ALIGNMENT = 64
SENTINEL = 0xDEADBEEF
_HEADER = struct.Struct("<II56x")
_METADATA = struct.Struct("<IIQQQ32x")

BLOB_TYPES = {
    number: BY_NAME[name]
    for number, name in {
        1: "fp16",
        2: "fp32",
        3: "uint8",
        4: "int8",
        6: "int16",
        7: "uint16",
        8: "int4",
        9: "uint1",
        10: "uint2",
        11: "uint4",
        12: "uint3",
        13: "uint6",
        14: "int32",
        15: "uint32",
    }.items()
}
"""Element types by their number in a metadata record (different from MIL's own numbering)."""


@dataclass(frozen=True)
class Blob:
    """One blob: the position of its data, in bytes from the start of the file, and its type."""

    element: ElementType
    offset: int
    nbytes: int
    padding_bits: int


class BlobFile:
    """Random access to the blobs of one weight.bin. Reads from disk each time, caches nothing."""

    def __init__(self, path: Path) -> None:
        """InvalidInput if the file is not blob storage of version 2."""
        self.path = path
        try:
            self.file_bytes = path.stat().st_size
            with path.open("rb") as file:
                header = file.read(_HEADER.size)
        except OSError as error:
            raise self._problem(f"cannot be read: {error.strerror}") from error
        if len(header) < _HEADER.size:
            raise self._problem("too short for the header of a Core ML weight file")
        self.count, version = _HEADER.unpack(header)
        if version != 2:
            raise self._problem(f"blob storage of version {version}; only version 2 is supported")

    def find(self, offset: int) -> Blob:
        """The blob whose metadata record starts at `offset`. InvalidInput if none does."""
        if offset % ALIGNMENT or not _HEADER.size <= offset <= self.file_bytes - _METADATA.size:
            raise self._problem(f"no metadata record can start at byte {offset}")
        with self.path.open("rb") as file:
            file.seek(offset)
            record = file.read(_METADATA.size)
        sentinel, number, nbytes, data, padding = _METADATA.unpack(record)
        if sentinel != SENTINEL:
            raise self._problem(f"no metadata record at byte {offset}: its sentinel is missing")
        if number not in BLOB_TYPES:
            raise self._problem(f"the blob at byte {offset} has the unknown type {number}")
        if data % ALIGNMENT or data + nbytes > self.file_bytes:
            raise self._problem(f"the blob at byte {offset} claims bytes outside of the file")
        return Blob(BLOB_TYPES[number], data, nbytes, padding)

    def read(self, offset: int, element: ElementType, count: int) -> Array:
        """`count` values of the blob at `offset`, one-dimensional, in `element.storage`.

        InvalidInput if the blob has another type or another number of values.
        """
        blob = self.find(offset)
        needed = (count * element.bits + 7) // 8
        # MIL has one-byte booleans, blob storage keeps them as uint8.
        if blob.element != element and not (element.name == "bool" and blob.element.bits == 8):
            raise self._problem(
                f"the blob at byte {offset} is {blob.element.name}, the program says {element.name}"
            )
        if blob.nbytes != needed:
            raise self._problem(
                f"the blob at byte {offset} has {blob.nbytes} bytes, {count} values of "
                f"{element.name} take {needed}"
            )
        data = np.fromfile(self.path, dtype=np.uint8, count=needed, offset=blob.offset)
        return unpacked(data, element, count)

    def _problem(self, what: str) -> InvalidInput:
        return InvalidInput(Problem(str(self.path), what, "export the package again"))


def unpacked(data: Array, element: ElementType, count: int) -> Array:
    """`count` values in `element.storage` from `data`, the bytes (uint8) as they lie in a file."""
    if element.bits >= 8:
        return data.view(element.storage)[:count]
    group_bits = math.lcm(element.bits, 8)
    group_bytes = group_bits // 8
    groups = np.pad(data, (0, -data.size % group_bytes)).reshape(-1, group_bytes)
    words: Array = groups[:, 0].astype(np.uint8 if group_bytes == 1 else np.uint32)
    for index in range(1, group_bytes):
        words |= groups[:, index].astype(words.dtype) << 8 * index
    shifts: Array = np.arange(0, group_bits, element.bits).astype(words.dtype)
    codes: Array = (words[:, None] >> shifts) & ((1 << element.bits) - 1)
    codes = codes.astype(np.uint8).reshape(-1)[:count]
    if not element.name.startswith("int"):
        return codes
    # The sign bit is moved to the top of the byte and shifted back down, which copies it.
    spare = 8 - element.bits
    signed: Array = (codes << spare).view(np.int8) >> spare
    return signed
