"""Symmetric integers with one scale for a row, or for each group of columns.

`scales[i, j]` belongs to `weight[i, j * group_size : (j + 1) * group_size]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.number_formats.base import Codes, Floats, NumberFormat


@dataclass(frozen=True)
class IntegerFormat(NumberFormat):
    """`weight ≈ scale × code`, `lowest ≤ code ≤ highest`.

    scale_dtype: with float16 a scale is the same in every runtime, since GGUF and Core ML store it
    so and ONNX can. stored_bits: the width of a code in a file, for formats that no runtime packs
    tighter: 3-bit codes can be stored in 4-bit fields; by default `bits`.

    >>> IntegerFormat("int3-b32", bits=3, group_size=32, stored_bits=4).nbytes(1, 64)
    36
    """

    scale_dtype: type[np.floating] = np.float16
    stored_bits: int = 0
    is_expanded: bool = False

    def __post_init__(self) -> None:
        """Fill in the default, which depends on another field."""
        object.__setattr__(self, "stored_bits", self.stored_bits or self.bits)
        if not 2 <= self.bits <= self.stored_bits <= 8:
            raise ValueError(f"{self.name}: {self.bits} bits do not fit into {self.stored_bits}")

    @property
    def takes_adapter(self) -> bool:
        """Layers with one scale per row are integer products, to which nothing is added."""
        return self.group_size is not None and not self.is_expanded

    @property
    def symmetric(self) -> bool:
        """Code 0 stands for 0."""
        return True

    @property
    def lowest(self) -> int:
        """Smallest code. Per-row int8 excludes -128, which would make the range asymmetric."""
        return -(1 << (self.bits - 1)) + (1 if self.group_size is None else 0)

    @property
    def highest(self) -> int:
        """Largest code."""
        return (1 << (self.bits - 1)) - 1

    def groups(self, columns: int) -> int:
        """Number of scales per row of `columns` weights; the last group may be short."""
        return 1 if self.group_size is None else -(-columns // self.group_size)

    def scale_count(self, rows: int, columns: int) -> int:
        """Number of scales of a `(rows, columns)` weight."""
        return rows * self.groups(columns)

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of packed codes and scales of a `(rows, columns)` weight."""
        stored = columns if self.group_size is None else self.groups(columns) * self.group_size
        scale_size = np.dtype(self.scale_dtype).itemsize
        codes = rows * (stored * self.stored_bits // 8)
        return codes + self.scale_count(rows, columns) * scale_size

    def storable(self, scales: NDArray[np.floating]) -> Floats:
        """`scales` rounded to what the format can store, as float32, and none of them zero."""
        narrow = scales.astype(self.scale_dtype)
        return np.where(narrow == 0, np.finfo(self.scale_dtype).tiny, narrow).astype(np.float32)

    def split(self, weight: Floats) -> Floats:
        """`(rows, columns)` as `(rows, groups, group_size)`, the last group padded with zeros."""
        rows, columns = weight.shape
        size = columns if self.group_size is None else self.group_size
        padding = self.groups(columns) * size - columns
        return np.pad(weight, ((0, 0), (0, padding))).reshape(rows, -1, size)

    def spread(self, scales: Floats, columns: int) -> Floats:
        """One scale per weight, `(rows, columns)`, from one per group."""
        size = columns if self.group_size is None else self.group_size
        return np.repeat(scales, size, axis=1)[:, :columns]

    def affine(self, scales: Floats, columns: int) -> tuple[Floats, Floats]:
        """Step and offset of every weight, which is `step × code + offset`; both `(rows, columns)`.

        If a step is zero, every code stands for the offset.
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
        """`step × code + offset`, float32 `(rows, columns)`."""
        steps, offsets = self.affine(scales, codes.shape[1])
        return codes.astype(np.float32) * steps + offsets


INT8 = IntegerFormat("int8", 8, activations=("dynamic-uint8", "static-uint8", "float32"))
INT8_STORED = IntegerFormat("int8-stored", 8, activations=("float32",), is_expanded=True)
INT4_STORED = IntegerFormat("int4-stored", 4, 32, is_expanded=True)
INT8_B32 = IntegerFormat("int8-b32", 8, 32)
INT4_B32 = IntegerFormat("int4-b32", 4, 32, default_method="gptq")
INTEGERS = (INT8, INT8_STORED, INT8_B32, INT4_STORED, INT4_B32)
