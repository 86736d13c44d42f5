"""Round every weight to its nearest code."""

from __future__ import annotations

from edgeq.quantize.methods.base import RoundingMethod, Statistics
from edgeq.quantize.methods.scales import starting_point
from edgeq.quantize.number_formats.base import Floats, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.floats import FloatFormat
from edgeq.quantize.number_formats.integers import IntegerFormat


class Nearest(RoundingMethod):
    """The nearest code, under scales that leave the least squared error."""

    name = "nearest"
    title = "rounding to the nearest value"
    summary = "Each weight becomes the nearest value in the smaller format."
    source = (
        "Nagel and others, A White Paper on Neural Network Quantization, "
        "https://arxiv.org/abs/2106.08295"
    )
    runs_in_ggml = True

    def rounds_onto(self, number_format: NumberFormat) -> bool:
        """Every number format with uniform steps; floats, which stay unchanged."""
        return isinstance(number_format, IntegerFormat | FloatFormat)

    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        """Statistics are ignored."""
        assert isinstance(number_format, IntegerFormat)
        return starting_point(weight, number_format, None, self.name)


NEAREST = Nearest()
