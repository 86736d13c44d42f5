"""AWQ: important inputs get finer steps, by factors folded into the preceding operator.

Lin et al., "AWQ: Activation-aware Weight Quantization", 2023, arXiv:2306.00978: columns with strong
inputs are multiplied before rounding, the inputs divided. Factors here are powers of two, so that
the folded model computes the same floats to the last bit.
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
        "Columns of weights with strong inputs are made larger before rounding, and the preceding "
        "values smaller by as much, so that they get finer steps."
    )
    source = "Lin and others, AWQ, https://arxiv.org/abs/2306.00978"
    reads = "moments"
    needs_calibration = True
    folds_graph = True

    def rounds_onto(self, number_format: NumberFormat) -> bool:
        """Integers in groups that products read, but not GGUF's, which store no folded graph."""
        if not isinstance(number_format, IntegerFormat) or number_format.is_expanded:
            return False
        return not isinstance(number_format, BlockFormat) and number_format.group_size is not None

    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        """Round to the nearest code: the graph is already folded."""
        return NEAREST.round(weight, None, number_format)

    def column_factors(
        self, weights: Sequence[Floats], moments: Moments, number_format: NumberFormat
    ) -> Floats | None:
        """Among powers of the inputs' strength, the factors with the best outputs."""
        return column_factors(weights, moments, number_format)


AWQ = Awq()


def column_factors(
    weights: Sequence[Floats], moments: Moments, number_format: NumberFormat
) -> Floats | None:
    """Factors to multiply columns by, and to divide the input by; None without a gain.

    weights: float32 `(rows, columns)` each, all that read the input whose moments these are.
    Returns float32 `(columns,)`, powers of two: among powers of the inputs' strength, the ones with
    which rounding to nearest changes the outputs least.
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
