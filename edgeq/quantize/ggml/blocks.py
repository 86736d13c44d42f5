"""Convert blocks of GGUF's quantized types to codes and scales and back, bit for bit.

Layouts are those of ggml-common.h (`block_q4_0` … `block_q6_K`), read as in `dequantize_row_*` of
ggml-quants.c. A type is a row of parts, each of which knows how its bytes hold numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.ggml.types import TYPES, GgmlType
from edgeq.quantize.number_formats.base import QuantizedTensor
from edgeq.quantize.number_formats.kquants import OF_TYPE, TYPE_OF, BlockFormat

Bytes = NDArray[np.uint8]

STORED_AS: dict[str, GgmlType] = {name: TYPES[type] for name, type in TYPE_OF.items()}
"""The type that stores a number format's codes and scales unchanged."""


@dataclass
class _Content:
    """The content of blocks: stored codes uint8 `(blocks, size)`, and integers.

    heads: the float16 scales, uint8 pairs. subs, minima: int16 `(blocks, sub-blocks)`.
    """

    codes: Bytes
    heads: list[Bytes] = field(default_factory=list)
    subs: NDArray[np.int16] | None = None
    minima: NDArray[np.int16] | None = None


class _Part(Protocol):
    @property
    def size(self) -> int: ...

    def read(self, stored: Bytes, into: _Content) -> None: ...
    def write(self, content: _Content) -> Bytes: ...


@dataclass(frozen=True)
class _Head:
    """The n-th float16 of its block."""

    index: int
    size: int = 2

    def read(self, stored: Bytes, into: _Content) -> None:
        into.heads.insert(self.index, stored)

    def write(self, content: _Content) -> Bytes:
        return content.heads[self.index]


@dataclass(frozen=True)
class _Plane:
    """`bits` bits of every code, from bit `shift` on.

    The first codes of each `run` are in the lowest bits of the run's bytes, one in each, the next
    above them, and so on.
    """

    bits: int
    run: int
    size: int
    shift: int = 0

    def read(self, stored: Bytes, into: _Content) -> None:
        runs = stored.reshape(len(stored), -1, 1, self.run * self.bits // 8)
        found = (runs >> self._places) & np.uint8((1 << self.bits) - 1)
        into.codes |= found.reshape(len(stored), -1) << np.uint8(self.shift)

    def write(self, content: _Content) -> Bytes:
        codes = (content.codes >> np.uint8(self.shift)) & np.uint8((1 << self.bits) - 1)
        runs = codes.reshape(len(codes), -1, 8 // self.bits, self.run * self.bits // 8)
        stored: Bytes = np.bitwise_or.reduce(runs << self._places, axis=2).reshape(len(codes), -1)
        return stored

    @property
    def _places(self) -> Bytes:
        return np.arange(0, 8, self.bits, dtype=np.uint8)[:, None]


@dataclass(frozen=True)
class _FifthBits:
    """The fifth bits of 32 codes, in order."""

    size: int = 4

    def read(self, stored: Bytes, into: _Content) -> None:
        into.codes |= np.unpackbits(stored, axis=1, bitorder="little") << np.uint8(4)

    def write(self, content: _Content) -> Bytes:
        return np.packbits(content.codes >> np.uint8(4), axis=1, bitorder="little")


@dataclass(frozen=True)
class _ByteCodes:
    """32 codes of one byte each."""

    size: int = 32

    def read(self, stored: Bytes, into: _Content) -> None:
        into.codes |= stored

    def write(self, content: _Content) -> Bytes:
        return content.codes


@dataclass(frozen=True)
class _NibblePairs:
    """Sub-scale and minimum of each sub-block in one byte (Q2_K)."""

    size: int = 16

    def read(self, stored: Bytes, into: _Content) -> None:
        into.subs, into.minima = (stored & 15).astype(np.int16), (stored >> 4).astype(np.int16)

    def write(self, content: _Content) -> Bytes:
        assert content.subs is not None and content.minima is not None
        return (content.subs | content.minima << 4).astype(np.uint8)


@dataclass(frozen=True)
class _SixBits:
    """16 sub-scales of six bits, stored plus 32 (Q3_K).

    Low four bits: of the first eight in the low halves of eight bytes, of the others in the high
    halves. High two bits: in four bytes, those of every fourth together.
    """

    size: int = 12

    def read(self, stored: Bytes, into: _Content) -> None:
        low = np.concatenate([stored[:, :8] & 15, stored[:, :8] >> 4], axis=1)
        high = (stored[:, None, 8:] >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]) & 3
        into.subs = (low | high.reshape(len(stored), 16) << 4).astype(np.int16) - np.int16(32)

    def write(self, content: _Content) -> Bytes:
        assert content.subs is not None
        lifted = (content.subs + np.int16(32)).astype(np.uint8)
        low = (lifted[:, :8] & 15) | (lifted[:, 8:] & 15) << 4
        high = (lifted >> 4).reshape(-1, 4, 4) << np.arange(0, 8, 2, dtype=np.uint8)[:, None]
        return np.concatenate([low, np.bitwise_or.reduce(high, axis=1)], axis=1)


@dataclass(frozen=True)
class _SixBitPairs:
    """Eight sub-scales and eight minima of six bits (Q4_K, Q5_K).

    The first four of each have a byte, whose two high bits belong to the last four; the low four
    bits of these share bytes.
    """

    size: int = 12

    def read(self, stored: Bytes, into: _Content) -> None:
        scales, minima, rest = stored[:, :4], stored[:, 4:8], stored[:, 8:]
        last_scales = (rest & 15) | (scales >> 6) << 4
        last_minima = (rest >> 4) | (minima >> 6) << 4
        into.subs = np.concatenate([scales & 63, last_scales], axis=1).astype(np.int16)
        into.minima = np.concatenate([minima & 63, last_minima], axis=1).astype(np.int16)

    def write(self, content: _Content) -> Bytes:
        assert content.subs is not None and content.minima is not None
        subs, minima = content.subs.astype(np.uint8), content.minima.astype(np.uint8)
        rest = (subs[:, 4:] & 15) | (minima[:, 4:] & 15) << 4
        firsts = [part[:, :4] | (part[:, 4:] >> 4) << 6 for part in (subs, minima)]
        return np.concatenate([*firsts, rest], axis=1)


@dataclass(frozen=True)
class _ByteSubs:
    """16 sub-scales of eight bits (Q6_K)."""

    size: int = 16

    def read(self, stored: Bytes, into: _Content) -> None:
        into.subs = stored.view(np.int8).astype(np.int16)

    def write(self, content: _Content) -> Bytes:
        assert content.subs is not None
        return content.subs.astype(np.int8).view(np.uint8)


_SCALE, _MINIMUM = _Head(0), _Head(1)
_LEGACY, _TWO_BITS = _Plane(4, 32, 16), _Plane(2, 128, 64)
_FOUR_BITS, _TOP_BIT = _Plane(4, 64, 128), _Plane(1, 256, 32, shift=4)
_PARTS: dict[str, tuple[_Part, ...]] = {
    "Q4_0": (_SCALE, _LEGACY),
    "Q4_1": (_SCALE, _MINIMUM, _LEGACY),
    "Q5_0": (_SCALE, _FifthBits(), _LEGACY),
    "Q5_1": (_SCALE, _MINIMUM, _FifthBits(), _LEGACY),
    "Q8_0": (_SCALE, _ByteCodes()),
    "Q2_K": (_NibblePairs(), _TWO_BITS, _SCALE, _MINIMUM),
    "Q3_K": (_Plane(1, 256, 32, shift=2), _TWO_BITS, _SixBits(), _SCALE),
    "Q4_K": (_SCALE, _MINIMUM, _SixBitPairs(), _FOUR_BITS),
    "Q5_K": (_SCALE, _MINIMUM, _SixBitPairs(), _TOP_BIT, _FOUR_BITS),
    "Q6_K": (_Plane(4, 128, 128), _Plane(2, 128, 64, shift=4), _ByteSubs(), _SCALE),
}


def unpack_codes(packed: Bytes, type: GgmlType, method: str) -> QuantizedTensor:
    """The codes and scales of rows in a file, uint8 `(rows, bytes per row)`.

    method: the rounding method, recorded in the tensor. Raises ValueError for a type whose codes
    are not multiples of a step.
    """
    if type.name not in _PARTS:
        raise ValueError(f"{type.name} has no uniform steps")
    number_format, rows = OF_TYPE[type.name], len(packed)
    blocks = packed.reshape(-1, type.block_bytes)
    content = _Content(np.zeros((len(blocks), type.block), np.uint8))
    at = 0
    for part in _PARTS[type.name]:
        part.read(np.ascontiguousarray(blocks[:, at : at + part.size]), content)
        at += part.size
    codes = content.codes.view(np.int8) - np.int8(_zero(type))
    heads = [head.view("<f2").astype(np.float32) for head in content.heads]
    rest = [part.astype(np.float32) for part in (content.subs, content.minima) if part is not None]
    scales = np.concatenate([*heads, *rest], axis=1)
    return QuantizedTensor(number_format, codes.reshape(rows, -1), scales.reshape(rows, -1), method)


def pack_codes(tensor: QuantizedTensor) -> Bytes:
    """Pack as uint8 `(rows, bytes per row)`, the inverse of `unpack_codes`.

    Raises ValueError for number formats that GGUF lacks, and for rows that are not whole blocks.
    """
    rows, columns = tensor.codes.shape
    type = STORED_AS.get(tensor.number_format.name)
    if type is None or columns % type.block:
        raise ValueError(
            f"{tensor.number_format.name} codes of {columns} columns do not fit into GGUF blocks"
        )
    lifted: NDArray[Any] = (tensor.codes + np.int8(_zero(type))).view(np.uint8)
    content = _Content(lifted.reshape(-1, type.block))
    stored = tensor.scales.reshape(len(content.codes), -1)
    number_format = tensor.number_format
    heads = 1 + (isinstance(number_format, BlockFormat) and number_format.has_minimum)
    content.heads = [
        np.ascontiguousarray(stored[:, i : i + 1].astype("<f2")).view(np.uint8)
        for i in range(heads)
    ]
    if isinstance(number_format, BlockFormat) and number_format.sub_scales:
        integers = stored[:, heads:].astype(np.int16)
        subs = number_format.subs
        content.subs, content.minima = integers[:, :subs], integers[:, subs:]
    parts = [part.write(content) for part in _PARTS[type.name]]
    packed: Bytes = np.concatenate(parts, axis=1).reshape(rows, -1)
    return packed


def _zero(type: GgmlType) -> int:
    """The number added to a code for storage; bytes are stored unchanged."""
    number_format = OF_TYPE[type.name]
    return 0 if number_format.bits == 8 else -number_format.lowest
