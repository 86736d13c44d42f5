"""Palettes: a weight is an index into a short table of values that its tensor, or a group of its
rows, shares. The only kind of four- and six-bit weight that Apple's Neural Engine reads directly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.quantize.number_formats.base import Codes, Floats, NumberFormat


@dataclass(frozen=True)
class Palette(NumberFormat):
    """Tables of `2 ** bits` values; in a QuantizedTensor codes are indices, scales the tables.

    rows: how many adjacent rows share a table, None for all. Codes are int8 `(rows, columns)` from
    0 to `2 ** bits - 1`, scales float32 `(groups, 2 ** bits)`, ascending.
    """

    rows: int | None = None

    @property
    def symmetric(self) -> bool:
        """A table's values may be anywhere."""
        return False

    @property
    def lowest(self) -> int:
        """Smallest index."""
        return 0

    @property
    def highest(self) -> int:
        """Largest index."""
        return (1 << self.bits) - 1

    def groups(self, rows: int) -> int:
        """Number of tables of a weight with `rows` rows."""
        return 1 if self.rows is None else -(-rows // self.rows)

    def scale_count(self, rows: int, columns: int) -> int:
        """Number of values in the tables of a `(rows, columns)` weight."""
        return self.groups(rows) * (1 << self.bits)

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of packed indices and tables of a `(rows, columns)` weight."""
        tables = self.scale_count(rows, columns) * np.dtype(np.float16).itemsize
        return -(-rows * columns * self.bits // 8) + tables

    def scales_of(self, scales: Floats, start: int, stop: int) -> Floats:
        """See `NumberFormat.scales_of`."""
        return scales if self.rows is None else scales[start // self.rows : -(-stop // self.rows)]

    def encode(self, weight: Floats, scales: Floats) -> Codes:
        """The index of the nearest value, int8 `(rows, columns)`."""
        size = self.rows or len(weight)
        codes = [
            np.searchsorted((table[1:] + table[:-1]) / 2, weight[i * size : (i + 1) * size])
            for i, table in enumerate(scales)
        ]
        return np.concatenate(codes).astype(np.int8)

    def decode(self, codes: Codes, scales: Floats) -> Floats:
        """The values of the indices, float32 `(rows, columns)`."""
        group = np.arange(len(codes)) // (self.rows or len(codes))
        values: Floats = scales[group[:, None], codes]
        return values


PALETTE4 = Palette("palette4", 4, default_method="kmeans")
PALETTE6 = Palette("palette6", 6, default_method="kmeans")
PALETTE4_G16 = Palette("palette4-g16", 4, default_method="kmeans", rows=16)
PALETTE6_G16 = Palette("palette6-g16", 6, default_method="kmeans", rows=16)
PALETTES = (PALETTE4, PALETTE6, PALETTE4_G16, PALETTE6_G16)
