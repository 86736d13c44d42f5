"""A method's codes, or those of plain rounding if these are better on held-out samples."""

from __future__ import annotations

from edgeq.quantize.methods import ROUNDING_METHODS, plain_method, rounding_method
from edgeq.quantize.methods.base import Statistics
from edgeq.quantize.number_formats.base import Floats, NumberFormat, QuantizedTensor

_ROWS_THAT_JUDGE = 256  # of a weight at most, spread over it


def round_judged(
    weight: Floats, statistics: Statistics, number_format: NumberFormat, method: str
) -> QuantizedTensor:
    """Codes of one weight; the tensor names the method that made them."""
    plain_rounding = plain_method(number_format)
    if statistics.held_back is None:
        return plain_rounding.round(weight, None, number_format)
    asked = rounding_method(method).round(weight, statistics, number_format)
    judges = slice(None, None, -(-len(weight) // _ROWS_THAT_JUDGE) or 1)
    some = weight[judges]
    plain = plain_rounding.round(some, None, number_format)
    rounded = number_format.decode(asked.codes[judges], asked.scales[judges])
    error = statistics.held_back.of_rows(judges).judge(some)
    if error(rounded) <= error(plain.dequantize()):
        return asked
    return plain_rounding.round(weight, None, number_format)


def with_fall_back(reason: str, asked: str, tensor: QuantizedTensor | None) -> str:
    """`reason`, and the fallback of `round_judged` if it did not use the requested method."""
    if tensor is None or tensor.method == asked or asked not in ROUNDING_METHODS:
        return reason
    if not ROUNDING_METHODS[asked].in_sequence:
        return reason
    if ROUNDING_METHODS[asked].starts_from(tensor.number_format) == tensor.method:
        return f"{reason}; {tensor.method}, which training did not change"
    return f"{reason}; {tensor.method}, for {asked} was worse on held-out calibration data"
