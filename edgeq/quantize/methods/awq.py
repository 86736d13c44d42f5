"""AWQ: inputs that matter get finer steps, by factors that the operator before takes back.

Lin et al., "AWQ: Activation-aware Weight Quantization", 2023, arXiv:2306.00978: columns whose
inputs are strong are multiplied before rounding, the inputs divided. Factors here are powers of
two, so that the folded model computes the same floats to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.quantize.methods.base import RoundingMethod, Statistics
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.number_formats.base import Floats, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.number_formats.kquants import BlockFormat

_STRENGTHS = (0.25, 0.5, 0.75, 1.0)


class Awq(RoundingMethod):
    """Factors are folded into the float graph, which is then rounded to nearest."""

    name = "awq"
    title = "AWQ"
    summary = (
        "Columns of weights that meet strong inputs are made larger before rounding, and what "
        "comes before them smaller by as much, so that they get finer steps."
    )
    source = "Lin and others, AWQ, https://arxiv.org/abs/2306.00978"
    reads = "moments"
    needs_calibration = True
    folds_graph = True

    def rounds_onto(self, number_format: NumberFormat) -> bool:
        """Integers in groups, but not GGUF's own, whose files take no folded graph."""
        is_integer = isinstance(number_format, IntegerFormat)
        is_ggufs = isinstance(number_format, BlockFormat)
        return is_integer and not is_ggufs and number_format.group_size is not None

    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        """To the nearest code: the graph was folded before."""
        return NEAREST.round(weight, None, number_format)

    def column_factors(
        self, weights: Sequence[Floats], moments: Moments, number_format: NumberFormat
    ) -> Floats | None:
        """Of factors that follow the inputs' strength, more or less, the best on the outputs."""
        return column_factors(weights, moments, number_format)


AWQ = Awq()


def column_factors(
    weights: Sequence[Floats], moments: Moments, number_format: NumberFormat
) -> Floats | None:
    """What to multiply columns by, and the input to divide by; None where nothing is gained.

    weights: float32 `(rows, columns)` each, all that read the input whose moments these are.
    Returns float32 `(columns,)`, powers of two: of those that follow the inputs' strength, more or
    less, the ones under which rounding to nearest changes the outputs least.
    """
    strength = np.sqrt(np.maximum(moments.power, 1e-12))
    strength /= np.exp(np.log(strength).mean())

    def error(factors: Floats) -> float:
        found = 0.0
        for weight in weights:
            rounded = NEAREST.round(weight * factors, None, number_format).dequantize()
            found += moments.error(weight, rounded / factors)
        return found

    tried = [np.exp2(np.rint(share * np.log2(strength))) for share in _STRENGTHS]
    candidates: list[Floats] = [np.ones_like(strength), *(t.astype(np.float32) for t in tried)]
    errors = [error(factors) for factors in candidates]
    best = errors.index(min(errors))
    return candidates[best] if best else None
