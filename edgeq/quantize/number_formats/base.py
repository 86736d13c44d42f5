"""What a number format is: which codes a weight can have, what they stand for, what they take.

Weights are two-dimensional, `(rows, columns)`: a linear layer's rows are its outputs and its
columns the inputs that are summed over; an embedding's rows are its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int8]


@dataclass(frozen=True)
class NumberFormat:
    """A way to store a weight. It says which codes there are, not how to round onto them.

    name: as recipes and records have it. bits: of one code. group_size: how many neighbouring
    columns share a scale; None means the whole row, or that there is no scale. default_method: the
    rounding method where a recipe names none. activations: what a layer on it can multiply by, the
    default first.
    """

    name: str
    bits: int
    group_size: int | None = None
    default_method: str = "nearest"
    activations: tuple[str, ...] = ("float32",)

    @property
    def takes_adapter(self) -> bool:
        """Whether a runtime adds a low-rank adapter to products with such weights."""
        return False

    @property
    def symmetric(self) -> bool:
        """Whether code 0 stands for 0, with no offset to store."""
        raise NotImplementedError

    @property
    def lowest(self) -> int:
        """Smallest code."""
        raise NotImplementedError

    @property
    def highest(self) -> int:
        """Largest code."""
        raise NotImplementedError

    def scale_count(self, rows: int, columns: int) -> int:
        """How many numbers a `(rows, columns)` weight has in addition to its codes."""
        raise NotImplementedError

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of the codes and scales of a `(rows, columns)` weight."""
        raise NotImplementedError

    def encode(self, weight: Floats, scales: Floats) -> Codes:
        """The nearest code of every weight under given scales, int8 `(rows, columns)`."""
        raise NotImplementedError

    def decode(self, codes: Codes, scales: Floats) -> Floats:
        """The values that a runtime computes with, float32 `(rows, columns)`."""
        raise NotImplementedError


@dataclass(frozen=True)
class QuantizedTensor:
    """A rounded weight: codes int8 `(rows, columns)`, scales float32 as its number format says.

    method: the rounding method that really made the codes. File formats write these numbers as
    they are; none rounds again.
    """

    number_format: NumberFormat
    codes: Codes
    scales: Floats
    method: str

    def dequantize(self) -> Floats:
        """float32 `(rows, columns)`."""
        return self.number_format.decode(self.codes, self.scales)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales as the number format stores them."""
        rows, columns = self.codes.shape
        return self.number_format.nbytes(rows, columns)
