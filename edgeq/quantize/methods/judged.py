"""A method's codes, or those of plain rounding if these are better on held-out samples."""

from __future__ import annotations

from edgeq.quantize.methods import ROUNDING_METHODS, plain_method, rounding_method
from edgeq.quantize.methods.base import Statistics
from edgeq.quantize.number_formats.base import Floats, NumberFormat, QuantizedTensor


def round_judged(
    weight: Floats, statistics: Statistics, number_format: NumberFormat, method: str
) -> QuantizedTensor:
    """Codes of one weight; the tensor names the method that made them."""
    assert statistics.held_back is not None
    asked = rounding_method(method).round(weight, statistics, number_format)
    plain = plain_method(number_format).round(weight, None, number_format)
    errors = statistics.held_back.errors(weight, (t.dequantize() for t in (asked, plain)))
    return asked if next(errors) <= next(errors) else plain


def with_fall_back(reason: str, asked: str, tensor: QuantizedTensor | None) -> str:
    """`reason`, and the fallback of `round_judged` if it did not use the requested method."""
    if tensor is None or tensor.method == asked or asked not in ROUNDING_METHODS:
        return reason
    if not ROUNDING_METHODS[asked].in_sequence:
        return reason
    return f"{reason}; {tensor.method}, for {asked} was worse on held-out calibration data"
