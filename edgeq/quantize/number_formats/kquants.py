"""GGUF's own number formats: legacy blocks with a minimum or five bits, and the K-quants.

In their `QuantizedTensor`, `scales` holds everything in a file other than the codes: float32
`(rows, stored blocks × fields)`, with, for each stored block, its float16 scale, the float16 scale
of its minima if it has them, and for K-quants the integer scale of each sub-block and then the
integer minimum of each. All are exact in float32, as is every product of two.

The formats are ggml's (ggml-common.h, `block_q*`; ggml-quants.c, `dequantize_row_*`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.quantize.number_formats.base import Floats
from edgeq.quantize.number_formats.integers import INT4_B32, INT8_B32, IntegerFormat


@dataclass(frozen=True)
class BlockFormat(IntegerFormat):
    """`weight = scale × sub-scale × code − scale of minima × minimum`.

    `group_size` columns share a sub-scale and minimum, `stored` columns a pair of float16 scales.
    `zero` is the stored code of 0; the minimum is subtracted, except in the legacy types, which add
    it (`minimum_sign`). sub_scales, minima: smallest and largest integer of each, None if the
    format has none.
    """

    stored: int = 32
    zero: int = 0
    sub_scales: tuple[int, int] | None = None
    minima: tuple[int, int] | None = None
    has_minimum: bool = False
    block_bytes: int = 0

    @property
    def symmetric(self) -> bool:
        """A minimum is an offset."""
        return not self.has_minimum

    @property
    def lowest(self) -> int:
        """Smallest code."""
        return -self.zero

    @property
    def highest(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1 - self.zero

    @property
    def minimum_sign(self) -> int:
        """1 if the minimum is added, -1 if it is subtracted."""
        return -1 if self.minima else 1

    @property
    def subs(self) -> int:
        """Sub-blocks of a stored block."""
        return self.stored // (self.group_size or 1)

    @property
    def fields(self) -> int:
        """Numbers of a stored block in addition to its codes."""
        heads = 1 + self.has_minimum
        return heads + self.subs * (bool(self.sub_scales) + bool(self.minima))

    def scale_count(self, rows: int, columns: int) -> int:
        """Numbers of a `(rows, columns)` weight in addition to codes."""
        return rows * columns // self.stored * self.fields

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of a `(rows, columns)` weight in a file."""
        return rows * (columns // self.stored) * self.block_bytes

    def parts(self, scales: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Scale, scale of minima, sub-scales and minima, as views of `scales`.

        `(rows, stored blocks, 1 or subs)` each; missing fields are ones, for minima zeros.
        """
        fields = scales.reshape(len(scales), -1, self.fields)
        heads = 1 + self.has_minimum
        subs = (*fields.shape[:2], self.subs)
        first, second = heads, heads + (self.subs if self.sub_scales else 0)
        one = np.ones((*fields.shape[:2], 1), np.float32)
        low = np.ones(subs, np.float32) if self.has_minimum else np.zeros(subs, np.float32)
        return (
            fields[..., :1],
            fields[..., 1:2] if self.has_minimum else one,
            fields[..., first:second] if self.sub_scales else np.ones(subs, np.float32),
            fields[..., second:] if self.minima else low,
        )

    def affine(self, scales: Floats, columns: int) -> tuple[Floats, Floats]:
        """Step and offset of every weight; see `IntegerFormat.affine`."""
        scale, minimum_scale, subs, minima = self.parts(scales)
        steps = (scale * subs).reshape(len(scales), -1)
        offsets = (minimum_scale * minima * np.float32(self.minimum_sign)).reshape(len(scales), -1)
        return self.spread(steps, columns), self.spread(offsets, columns)


def _format(
    name: str,
    bits: int,
    group_size: int,
    nbytes: int,
    *,
    zero: int = 0,
    minimum: bool = False,
    sub_scales: tuple[int, int] | None = None,
    minima: tuple[int, int] | None = None,
) -> BlockFormat:
    return BlockFormat(
        name,
        bits,
        group_size,
        stored=256 if sub_scales else group_size,
        zero=zero,
        sub_scales=sub_scales,
        minima=minima,
        has_minimum=minimum,
        block_bytes=nbytes,
    )


BLOCKS = (
    _format("Q4_1", 4, 32, 20, minimum=True),
    _format("Q5_0", 5, 32, 22, zero=16),
    _format("Q5_1", 5, 32, 24, minimum=True),
    _format("Q2_K", 2, 16, 84, minimum=True, sub_scales=(0, 15), minima=(0, 15)),
    _format("Q3_K", 3, 16, 110, zero=4, sub_scales=(-32, 31)),
    _format("Q4_K", 4, 32, 144, minimum=True, sub_scales=(0, 63), minima=(0, 63)),
    _format("Q5_K", 5, 32, 176, minimum=True, sub_scales=(0, 63), minima=(0, 63)),
    _format("Q6_K", 6, 16, 210, zero=32, sub_scales=(-128, 127)),
)

OF_TYPE: dict[str, IntegerFormat] = {
    "Q4_0": INT4_B32,
    "Q8_0": INT8_B32,
    **{each.name: each for each in BLOCKS},
}
"""The number format of every GGUF type that our codes can be stored in, by the type's name."""
TYPE_OF = {number_format.name: type for type, number_format in OF_TYPE.items()}
"""The type's name by the number format's."""
