"""Represent inputs of products as 8-bit codes of a static range, in a program.

Core ML has no operator that multiplies codes. `quantize` followed by `dequantize` states the
possible values of an input (operators since iOS 17); if weights are int8 as well, a Neural Engine
with such products (A17 Pro, M4 and later) runs the two operators and the product as one.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from edgeq.formats.apple.constants import Weight
from edgeq.formats.base import Array
from edgeq.quantize.activations import InputCodes, scale_and_zero_point

_SMALLEST_SCALE = float(np.finfo(np.float16).tiny)  # smaller ones lose precision in float16


class Emitter(Protocol):
    """Writes operators: the writer of the program that the codes are part of."""

    def emit(self, kind: str, name: str, **values: Any) -> Any:
        """Add an operator in the program's own precision."""

    def in_float32(self, kind: str, name: str, **values: Any) -> Any:
        """Add an operator in float32."""

    def linear(self, name: str, x: Any, weight: Weight, bias: Array | None = None) -> Any:
        """Add a product with a weight."""


class InputCoder:
    """Codes each input once for all the products that read it in the same way."""

    def __init__(self, writer: Emitter) -> None:
        self._writer = writer
        self._coded: dict[tuple[str, int], Any] = {}
        self._outliers: dict[tuple[str, tuple[int, ...]], Any] = {}

    def coded(self, x: Any, codes: InputCodes) -> Any:
        """The value of `x` after uint8 codes, divided by the smoothing if there is one."""
        key = (x.name, id(codes))  # weights that share an input share the object too
        if key not in self._coded:
            self._coded[key] = self._code(x, codes)
        return self._coded[key]

    def _code(self, x: Any, codes: InputCodes) -> Any:
        assert codes.low is not None and codes.high is not None
        emit, name = self._writer.emit, x.name
        if codes.smoothing is not None:
            x = emit("mul", f"{name}.smoothed", x=x, y=np.reciprocal(codes.smoothing))
        scale, zero = scale_and_zero_point(codes.low, codes.high)
        if scale < _SMALLEST_SCALE:
            emit = self._writer.in_float32
        parameters = {"scale": scale, "zero_point": zero}
        stored = emit("quantize", f"{name}.codes", input=x, output_dtype="uint8", **parameters)
        return emit("dequantize", f"{name}.coded", input=stored, **parameters)

    def add_outliers(self, name: str, x: Any, weight: Weight, product: Any) -> Any:
        """Add the product of the input's outlier channels, which have no codes, to `product`."""
        assert weight.inputs is not None and weight.outlier_weights is not None
        emit, columns = self._writer.emit, weight.inputs.outliers
        key = (x.name, columns)
        if key not in self._outliers:
            chosen = np.array(columns, np.int32)
            self._outliers[key] = emit(
                "gather", f"{x.name}.outliers", x=x, indices=chosen, axis=len(x.shape) - 1
            )
        values = weight.outlier_weights
        own = Weight(f"{weight.name}.outliers", values.shape, lambda: values)
        more = self._writer.linear(f"{name}.outliers", self._outliers[key], own)
        return emit("add", f"{name}.both", x=product, y=more)
