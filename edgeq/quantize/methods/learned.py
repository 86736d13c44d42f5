"""Learned rounding: codes and scales of all layers, trained by gradients from the model's answers.

What trains them is in `edgeq.pipeline.learn`, since it runs the model in torch; here is what it
starts from.
"""

from __future__ import annotations

from edgeq.quantize.methods.base import RoundingMethod, Statistics
from edgeq.quantize.methods.gptq import GPTQ
from edgeq.quantize.methods.kmeans import KMEANS
from edgeq.quantize.number_formats.base import Floats, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.number_formats.palettes import Palette


class Learned(RoundingMethod):
    """Codes of another method, trained against the float model's answers."""

    name = "learned"
    title = "learned rounding"
    summary = (
        "Starting from GPTQ's values, a few hundred training steps move the weights of all layers "
        "together, until the model answers more like the original one."
    )
    source = "Nagel and others, AdaRound, https://arxiv.org/abs/2004.10568"
    reads = "moments"
    needs_calibration = True
    in_sequence = True
    rounds_tables = True
    trains = True
    proxy = "importance"

    def rounds_onto(self, number_format: NumberFormat) -> bool:
        """Integers in groups, GGUF's own among them, and palettes.

        A scale per row goes with activations in 8 bits, whose error training would not see.
        """
        if isinstance(number_format, IntegerFormat):
            return bool(number_format.group_size) and not number_format.is_expanded
        return isinstance(number_format, Palette)

    def starts_from(self, number_format: NumberFormat) -> str:
        """Palettes have tables by k-means, all others GPTQ's codes."""
        return _start(number_format).name

    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        """The codes that training starts from; the tensor names their method."""
        return _start(number_format).round(weight, statistics, number_format)


LEARNED = Learned()


def _start(number_format: NumberFormat) -> RoundingMethod:
    return KMEANS if isinstance(number_format, Palette) else GPTQ
