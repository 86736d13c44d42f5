"""The number formats of GGUF: how many values a block holds, and how many bytes it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass


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


# Facts of ggml (ggml.h `enum ggml_type`, ggml-common.h); numbers left out were withdrawn.
TYPES: dict[str, GgmlType] = {
    type.name: type
    for type in (
        GgmlType("F32", 0, 1, 4),
        GgmlType("F16", 1, 1, 2),
        GgmlType("Q4_0", 2, 32, 18),
        GgmlType("Q4_1", 3, 32, 20),
        GgmlType("Q5_0", 6, 32, 22),
        GgmlType("Q5_1", 7, 32, 24),
        GgmlType("Q8_0", 8, 32, 34),
        GgmlType("Q8_1", 9, 32, 36),
        GgmlType("Q2_K", 10, 256, 84),
        GgmlType("Q3_K", 11, 256, 110),
        GgmlType("Q4_K", 12, 256, 144),
        GgmlType("Q5_K", 13, 256, 176),
        GgmlType("Q6_K", 14, 256, 210),
        GgmlType("Q8_K", 15, 256, 292),
        GgmlType("IQ2_XXS", 16, 256, 66),
        GgmlType("IQ2_XS", 17, 256, 74),
        GgmlType("IQ3_XXS", 18, 256, 98),
        GgmlType("IQ1_S", 19, 256, 50),
        GgmlType("IQ4_NL", 20, 32, 18),
        GgmlType("IQ3_S", 21, 256, 110),
        GgmlType("IQ2_S", 22, 256, 82),
        GgmlType("IQ4_XS", 23, 256, 136),
        GgmlType("I8", 24, 1, 1),
        GgmlType("I16", 25, 1, 2),
        GgmlType("I32", 26, 1, 4),
        GgmlType("I64", 27, 1, 8),
        GgmlType("F64", 28, 1, 8),
        GgmlType("IQ1_M", 29, 256, 56),
        GgmlType("BF16", 30, 1, 2),
        GgmlType("TQ1_0", 34, 256, 54),
        GgmlType("TQ2_0", 35, 256, 66),
        GgmlType("MXFP4", 39, 32, 17),
        GgmlType("NVFP4", 40, 64, 36),
        GgmlType("Q1_0", 41, 128, 18),
        GgmlType("Q2_0", 42, 64, 18),
    )
}
_BY_ID = {type.id: type for type in TYPES.values()}

# What llama.cpp's quantizer takes where a row is not made of whole blocks (llama-quant.cpp,
# `tensor_type_fallback`).
_FALLBACK = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"), "IQ4_NL"),
    **dict.fromkeys(("IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0", "Q2_0"), "Q4_0"),
    **{"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"},
}


def by_id(id: int) -> GgmlType | None:
    """The type a file means by a number; None for one that is not known."""
    return _BY_ID.get(id)


def nbytes(type: GgmlType, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of `shape`, rows first; its rows must be whole blocks."""
    return math.prod(shape) // type.block * type.block_bytes


def fallback(type: GgmlType, columns: int) -> GgmlType:
    """`type`, or what llama.cpp takes in its place for rows of `columns` values.

    That is F16 where rows do not divide into blocks of 32 either.
    """
    if columns % type.block == 0:
        return type
    other = TYPES[_FALLBACK.get(type.name, "F16")]
    return other if columns % other.block == 0 else TYPES["F16"]
