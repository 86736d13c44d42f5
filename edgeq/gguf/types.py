"""The number formats of GGUF: how many values a block holds, and how many bytes it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import gguf

# Not for weights: intermediate formats of llama.cpp's kernels.
_INTERNAL = ("Q8_1", "Q8_K")


@dataclass(frozen=True)
class GgmlType:
    """A number format: `block` values of a row take `block_bytes` bytes. id: as files have it."""

    name: str
    id: int
    block: int
    block_bytes: int

    @property
    def bits(self) -> float:
        """Bits per weight, scales included."""
        return 8 * self.block_bytes / self.block


TYPES: dict[str, GgmlType] = {
    kind.name: GgmlType(kind.name, int(kind), *gguf.GGML_QUANT_SIZES[kind])
    for kind in gguf.GGMLQuantizationType
    if kind.name not in _INTERNAL
}
_BY_ID = {type.id: type for type in TYPES.values()}

# What llama.cpp's quantizer takes where a row is not made of whole blocks of 256 (llama-quant.cpp,
# `tensor_type_fallback`), and where 32 does not divide it either.
_FALLBACK = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "IQ1_S": "IQ4_NL",
    "IQ1_M": "IQ4_NL",
    "IQ2_XXS": "IQ4_NL",
    "IQ2_XS": "IQ4_NL",
    "IQ2_S": "IQ4_NL",
    "IQ3_XXS": "IQ4_NL",
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


def by_id(id: int) -> GgmlType | None:
    """The type a file means by a number; None for one that is not known."""
    return _BY_ID.get(id)


def nbytes(type: GgmlType, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of `shape`, rows first; its rows must be whole blocks."""
    return math.prod(shape) // type.block * type.block_bytes


def fallback(type: GgmlType, columns: int) -> GgmlType:
    """`type`, or what llama.cpp takes in its place for rows of `columns` values."""
    if columns % type.block == 0:
        return type
    other = TYPES[_FALLBACK.get(type.name, "F16")]
    return other if columns % other.block == 0 else TYPES["F16"]
