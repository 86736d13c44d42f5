"""Weights that keep their values, in 32 or 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.quantize.number_formats.base import NumberFormat


@dataclass(frozen=True)
class FloatFormat(NumberFormat):
    """IEEE 754 floats: nothing is rounded onto codes."""

    @property
    def symmetric(self) -> bool:
        """Floats need no offset."""
        return True

    def scale_count(self, rows: int, columns: int) -> int:
        """Floats have no scales."""
        return 0

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of the values."""
        return rows * columns * self.bits // 8


FLOAT32 = FloatFormat("float32", 32)
FLOAT16 = FloatFormat("float16", 16)
FLOATS = (FLOAT32, FLOAT16)
