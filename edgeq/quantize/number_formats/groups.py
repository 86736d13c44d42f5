"""Number formats. A grid says which codes exist and how scales are shared, not how to round.

Weights are two-dimensional, `(rows, columns)`: a linear layer's rows are its outputs and its
columns the inputs that are summed over; an embedding's rows are its tokens. Blocks run along
columns, so `scales[i, j]` belongs to `weight[i, j * block : (j + 1) * block]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Grid:
    """A symmetric integer number format: `weight ≈ scale × code`, `lowest ≤ code ≤ highest`.

    `block` is how many neighbouring columns share a scale; `None` means the whole row does.
    `scale_dtype` is what a scale can hold: with float16 it is the same on every runtime, since
    GGUF and Core ML store it so and ONNX can.
    """

    name: str
    bits: int
    block: int | None
    scale_dtype: type[np.floating]

    @property
    def lowest(self) -> int:
        """Smallest code. Per-row int8 leaves out -128, which would make the range lopsided."""
        return -(1 << (self.bits - 1)) + (1 if self.block is None else 0)

    @property
    def highest(self) -> int:
        """Largest code."""
        return (1 << (self.bits - 1)) - 1

    def blocks(self, columns: int) -> int:
        """How many scales a row of `columns` weights has; the last block may be short."""
        return 1 if self.block is None else -(-columns // self.block)

    def scale_count(self, rows: int, columns: int) -> int:
        """How many scales a `(rows, columns)` weight has."""
        return rows * self.blocks(columns)

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of packed codes and scales of a `(rows, columns)` weight."""
        stored = columns if self.block is None else self.blocks(columns) * self.block
        scale_size = np.dtype(self.scale_dtype).itemsize
        return rows * (stored * self.bits // 8) + self.scale_count(rows, columns) * scale_size

    def storable(self, scales: NDArray[np.floating]) -> Floats:
        """`scales` rounded to what the format can hold, as float32, and none of them zero."""
        held = scales.astype(self.scale_dtype)
        return np.where(held == 0, np.finfo(self.scale_dtype).tiny, held).astype(np.float32)

    def split(self, weight: Floats) -> Floats:
        """`(rows, columns)` as `(rows, blocks, block)`, the last block filled up with zeros."""
        rows, columns = weight.shape
        size = columns if self.block is None else self.block
        padding = self.blocks(columns) * size - columns
        return np.pad(weight, ((0, 0), (0, padding))).reshape(rows, -1, size)

    def spread(self, scales: Floats, columns: int) -> Floats:
        """One scale per weight, `(rows, columns)`, from one per block."""
        size = columns if self.block is None else self.block
        return np.repeat(scales, size, axis=1)[:, :columns]

    def affine(self, scales: Floats, columns: int) -> tuple[Floats, Floats]:
        """Step and offset of every weight, which is `step × code + offset`; both `(rows, columns)`.

        Where a step is zero the code says nothing.
        """
        steps = self.spread(scales, columns)
        return steps, np.zeros_like(steps)

    def encode(self, weight: Floats, scales: Floats) -> Codes:
        """The nearest code of every weight, int8 `(rows, columns)`."""
        steps, offsets = self.affine(scales, weight.shape[1])
        ratio = np.divide(weight - offsets, steps, out=np.zeros_like(weight), where=steps != 0)
        codes: Codes = np.clip(np.rint(ratio), self.lowest, self.highest).astype(np.int8)
        return codes

    def decode(self, codes: Codes, scales: Floats) -> Floats:
        """What a runtime computes with: `step × code + offset`, float32 `(rows, columns)`."""
        steps, offsets = self.affine(scales, codes.shape[1])
        return codes.astype(np.float32) * steps + offsets


INT8 = Grid("int8", bits=8, block=None, scale_dtype=np.float16)
INT8_B32 = Grid("int8-b32", bits=8, block=32, scale_dtype=np.float16)
INT4_B32 = Grid("int4-b32", bits=4, block=32, scale_dtype=np.float16)
GRIDS = {grid.name: grid for grid in (INT8, INT8_B32, INT4_B32)}


@dataclass(frozen=True)
class QuantizedTensor:
    """A weight on a grid: codes int8 `(rows, columns)`, scales float32 `(rows, blocks)`.

    Exporters write these numbers as they are; none rounds again.
    """

    grid: Grid
    codes: Codes
    scales: Floats
    method: str

    def dequantize(self) -> Floats:
        """float32 `(rows, columns)`."""
        return self.grid.decode(self.codes, self.scales)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales as the grid stores them."""
        rows, columns = self.codes.shape
        return self.grid.nbytes(rows, columns)
