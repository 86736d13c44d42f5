"""AWQ: inputs that matter get finer steps, by factors that the operator before takes back.

Lin et al., "AWQ: Activation-aware Weight Quantization", 2023, arXiv:2306.00978: columns whose
inputs are strong are multiplied before rounding, the inputs divided. Factors here are powers of
two, so that the folded model computes the same floats to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.methods.rounding import round_tensor
from edgeq.quantize.number_formats.groups import Floats, Grid

_STRENGTHS = (0.25, 0.5, 0.75, 1.0)


def column_factors(weights: Sequence[Floats], moments: Moments, grid: Grid) -> Floats | None:
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
            rounded = round_tensor(weight * factors, None, grid, "nearest").dequantize()
            found += moments.error(weight, rounded / factors)
        return found

    tried = [np.exp2(np.rint(share * np.log2(strength))) for share in _STRENGTHS]
    candidates: list[Floats] = [np.ones_like(strength), *(t.astype(np.float32) for t in tried)]
    errors = [error(factors) for factors in candidates]
    best = errors.index(min(errors))
    return candidates[best] if best else None
