"""The number formats of GGUF: values per block, and bytes per block."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class GgmlType:
    """A number format: `block` values of a row take `block_bytes` bytes. id: used in files."""

    name: str
    id: int
    block: int
    block_bytes: int

    @property
    def bits(self) -> float:
        """Bits per weight, including scales."""
        return 8 * self.block_bytes / self.block


# Facts about ggml (ggml.h `enum ggml_type`, ggml-common.h); missing numbers were withdrawn.
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

# Substitutes of llama.cpp's quantizer for rows that are not whole blocks (llama-quant.cpp,
# `tensor_type_fallback`).
_FALLBACK = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"), "IQ4_NL"),
    **dict.fromkeys(("IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0", "Q2_0"), "Q4_0"),
    **{"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"},
}


def by_id(id: int) -> GgmlType | None:
    """The type with a number in files; None if it is unknown."""
    return _BY_ID.get(id)


def nbytes(type: GgmlType, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of `shape`, rows first; its rows must be whole blocks."""
    return math.prod(shape) // type.block * type.block_bytes


def fallback(type: GgmlType, columns: int) -> GgmlType:
    """`type`, or llama.cpp's substitute for rows of `columns` values.

    That is F16 if rows do not divide into blocks of 32 either.
    """
    if columns % type.block == 0:
        return type
    other = TYPES[_FALLBACK.get(type.name, "F16")]
    return other if columns % other.block == 0 else TYPES["F16"]
