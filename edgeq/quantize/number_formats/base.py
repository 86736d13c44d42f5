"""The interface of a number format: its codes, their values, and their size.

Weights are two-dimensional, `(rows, columns)`: a linear layer's rows are its outputs and its
columns the inputs that are summed over; an embedding's rows are its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int8]


@dataclass(frozen=True)
class NumberFormat:
    """A way to store a weight: it defines the codes, not how to round onto them.

    name: in recipes and records. bits: per code. group_size: how many adjacent columns share a
    scale; None means the whole row, or that there is no scale. default_method: the rounding method
    if a recipe names none. activations: the number formats of a layer's inputs, the default first.
    """

    name: str
    bits: int
    group_size: int | None = None
    default_method: str = "nearest"
    activations: tuple[str, ...] = ("float32",)

    @property
    def is_expanded(self) -> bool:
        """Whether a runtime expands codes to floats once, when it opens the file, whatever reads
        them."""
        return False

    @property
    def takes_adapter(self) -> bool:
        """Whether a runtime adds a low-rank adapter to products with such weights."""
        return False

    @property
    def symmetric(self) -> bool:
        """Whether code 0 is the value 0, without an offset to store."""
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
        """The number of scales (and similar) of a `(rows, columns)` weight, in addition to its
        codes.
        """
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

    def scales_of(self, scales: Floats, start: int, stop: int) -> Floats:
        """The scales of some rows."""
        return scales[start:stop]


@dataclass(frozen=True)
class QuantizedTensor:
    """A rounded weight: codes int8 `(rows, columns)`, scales float32 as its number format defines.

    method: the rounding method that actually made the codes. File formats write these numbers
    unchanged; none rounds again.
    """

    number_format: NumberFormat
    codes: Codes
    scales: Floats
    method: str

    def dequantize(self) -> Floats:
        """float32 `(rows, columns)`."""
        return self.number_format.decode(self.codes, self.scales)

    def part(self, start: int, stop: int) -> QuantizedTensor:
        """Some rows; where rows share scales, none of those that share may be left out."""
        scales = self.number_format.scales_of(self.scales, start, stop)
        return replace(self, codes=self.codes[start:stop], scales=scales)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales as the number format stores them."""
        rows, columns = self.codes.shape
        return self.number_format.nbytes(rows, columns)
