"""Round to nearest, with the error of each column weighted by the mean square of its input."""

from __future__ import annotations

from edgeq.quantize.methods.base import RoundingMethod, Statistics
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.methods.scales import starting_point
from edgeq.quantize.number_formats.base import Floats, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat


class Importance(RoundingMethod):
    """The nearest code, under scales that leave the least importance-weighted squared error."""

    name = "importance"
    title = "an importance matrix"
    summary = (
        "Rounding weights each column by how strongly example texts use it, so that the most used "
        "columns are kept most exactly."
    )
    source = "llama.cpp, imatrix, https://github.com/ggml-org/llama.cpp/tree/master/tools/imatrix"
    reads = "power"
    needs_calibration = True
    in_sequence = True
    runs_in_ggml = True

    def rounds_onto(self, number_format: NumberFormat) -> bool:
        """Integers in groups; in a whole row, the scale must hold the largest weight anyway."""
        return isinstance(number_format, IntegerFormat) and number_format.group_size is not None

    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        """Without statistics it is rounding to nearest."""
        if statistics is None or statistics.power is None:
            return NEAREST.round(weight, statistics, number_format)
        assert isinstance(number_format, IntegerFormat)
        return starting_point(weight, number_format, statistics.power, self.name)


IMPORTANCE = Importance()
