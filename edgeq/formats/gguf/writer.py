"""Write GGUF files as a stream: the header first, then piece by piece.

The format is version 3 of the GGUF specification (ggml, docs/gguf.md), little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgeq.core.files import replacing
from edgeq.formats.gguf.header import ALIGNMENT, MAGIC
from edgeq.formats.gguf.values import KINDS, Kind, MetaValue
from edgeq.quantize.ggml.types import GgmlType, nbytes

Chunk = bytes | memoryview | np.ndarray
TensorSpec = tuple[str, tuple[int, ...], GgmlType]


def write_gguf(
    path: Path,
    metadata: Mapping[str, MetaValue],
    tensors: Sequence[TensorSpec],
    chunks: Callable[[str], Iterable[Chunk]],
) -> None:
    """Write `path` atomically.

    tensors: name, shape (rows first) and type of each, in the file's order. chunks: the bytes of
    the named tensor, in pieces; called once for each, in order. Raises ValueError if their number
    does not match shape and type, or two tensors have one name.
    """
    if len({name for name, _, _ in tensors}) < len(tensors):
        raise ValueError("two tensors have one name")
    alignment = _alignment(metadata)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(header_bytes(metadata, tensors))
        _pad(file, alignment)
        for name, shape, type in tensors:
            written = 0
            for chunk in chunks(name):
                piece = chunk.data if isinstance(chunk, np.ndarray) else memoryview(chunk)
                written += file.write(piece.cast("B"))
            if written != nbytes(type, shape):
                what = f"{name} has {written} bytes, {type.name} {shape} takes"
                raise ValueError(f"{what} {nbytes(type, shape)}")
            _pad(file, alignment)


def header_bytes(metadata: Mapping[str, MetaValue], tensors: Sequence[TensorSpec]) -> bytes:
    """Everything before the tensors' data, without the padding after it."""
    parts = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_string(key), _value(value)]
    alignment, offset = _alignment(metadata), 0
    for name, shape, type in tensors:
        parts += [
            _string(name),
            struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), type.id, offset),
        ]
        offset += -(-nbytes(type, shape) // alignment) * alignment
    return b"".join(parts)


def _alignment(metadata: Mapping[str, MetaValue]) -> int:
    found = metadata.get("general.alignment")
    return ALIGNMENT if found is None else int(found.value)


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))


def _string(text: str) -> bytes:
    # Tokens of a vocabulary may contain invalid UTF-8; a reader keeps it as surrogates.
    encoded = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: MetaValue) -> bytes:
    kind = KINDS[value.kind]
    head = struct.pack("<I", kind.id)
    if value.kind == "string":
        return head + _string(value.value)
    if value.kind != "array":
        return head + struct.pack(f"<{kind.code}", value.value)
    assert value.element is not None
    element = KINDS[value.element]
    head += struct.pack("<IQ", element.id, len(value.value))
    if value.element == "string":
        return head + b"".join(map(_string, value.value))
    return head + _numbers(value.value, element)


def _numbers(values: Any, kind: Kind) -> bytes:
    """An array's numbers, each as it is: numpy would read a list of large integers as float64."""
    if isinstance(values, np.ndarray):
        return values.astype(f"<{kind.numpy}", casting="safe").tobytes()
    return struct.pack(f"<{len(values)}{kind.code}", *values)
