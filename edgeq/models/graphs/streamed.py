"""A constant that is computed while its file is written, a few rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_BYTES_AT_ONCE = 8 << 20

Read = Callable[[int, int], NDArray[Any]]


class StreamedTensor(ir.LazyTensor):
    """A tensor given by `read(start, stop)`, rows of its first axis, a few at a time.

    read: must give the same bytes on every call, in `dtype`.
    """

    def __init__(self, name: str, dtype: ir.DataType, shape: tuple[int, ...], read: Read) -> None:
        super().__init__(
            lambda: ir.tensor(read(0, shape[0]), dtype=dtype), dtype, ir.Shape(shape), name=name
        )
        self._read = read
        self._rows = shape[0]
        per_row = math.prod(shape[1:]) * dtype.itemsize
        self._rows_at_once = max(1, int(_BYTES_AT_ONCE // per_row))

    def tofile(self, file: BinaryIO) -> None:
        """Write the bytes of all rows, little-endian, in order."""
        for start in range(0, self._rows, self._rows_at_once):
            piece = self._read(start, min(start + self._rows_at_once, self._rows))
            file.write(np.ascontiguousarray(piece).data)
