"""Small GGUF files for the tests, written by hand byte for byte: no code under test writes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path


def string(text: str | bytes) -> bytes:
    """A string as the format has it."""
    held = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(held)) + held


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    """A metadata key with a value of the kind of that number."""
    return string(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes) -> bytes:
    """An array's value: the kind of its items, their number, and they themselves."""
    return struct.pack("<IQ", kind, count) + items


def tensor(
    name: str | bytes, lengths: Sequence[int], type: int, offset: int, axes: int | None = None
) -> bytes:
    """A tensor's entry; lengths columns first, as the format has them."""
    count = len(lengths) if axes is None else axes
    return string(name) + struct.pack(f"<I{len(lengths)}QIQ", count, *lengths, type, offset)


def gguf(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    keys: int | None = None,
    count: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A file; `keys` and `count` claim other numbers of pairs and tensors than there are."""
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if count is None else count,
        len(pairs) if keys is None else keys,
    )
    head += b"".join([*pairs, *tensors])
    return head + bytes(-len(head) % alignment) + data


def valid() -> bytes:
    """A file with a value of every kind and tensors of three types."""
    pairs = [
        pair("general.architecture", 8, string("llama")),
        *(pair(f"k.{kind}", kind, b"\1" * size) for kind, size in enumerate((1, 1, 2, 2, 4, 4, 4))),
        pair("k.bool", 7, b"\1"),
        *(pair(f"k.{kind}", kind, b"\1" * 8) for kind in (10, 11, 12)),
        pair("a.string", 9, array(8, 3, string("a") + string("") + string(b"\xff\xc3\xa9"))),
        pair("a.int32", 9, array(5, 4, struct.pack("<4i", -1, 0, 1, 2))),
        pair("a.bool", 9, array(7, 2, b"\0\1")),
        pair("a.empty", 9, array(6, 0, b"")),
    ]
    tensors = [
        tensor("token_embd.weight", (8, 4), 0, 0),
        tensor("blk.0.ffn_up.weight", (64, 2), 8, 128),
        tensor("output_norm.weight", (8,), 1, 128 + 160),
    ]
    return gguf(pairs, tensors, bytes(range(256)) * 2)


def write(path: Path, content: bytes) -> Path:
    """`content` in a file."""
    path.write_bytes(content)
    return path
