"""GPTQ: round column by column and let the columns still to come make up for the error.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", 2022, arXiv:2210.17323, algorithm 1, with columns taken in the order
of falling input power ("act-order") and scales fixed beforehand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.grids import Codes, Floats, Grid, QuantizedTensor
from edgeq.quantize.nearest import search_scales

_COLUMNS_AT_ONCE = 128
_DAMPING = 0.01  # of the mean input power, as in the paper


def gptq(weight: Floats, hessian: NDArray[np.float64], grid: Grid) -> QuantizedTensor:
    """Quantize so that `inputs @ weight.T` changes least on the calibration inputs.

    weight: float32 `(rows, columns)`. hessian: float64 `(columns, columns)`, the mean of
    `x xᵀ` over calibration inputs `x` of this layer.
    """
    power = np.diag(hessian).copy()
    scales = search_scales(weight, grid, importance=power.astype(np.float32))
    order = np.argsort(-power, kind="stable")
    upper = _inverse_factor(hessian, power, order)
    codes = _round_columns(
        weight[:, order], grid.spread(scales, weight.shape[1])[:, order], upper, grid
    )
    return QuantizedTensor(grid, codes[:, np.argsort(order)], scales, "gptq")


def _inverse_factor(
    hessian: NDArray[np.float64], power: NDArray[np.float64], order: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Upper Cholesky factor of the inverse of the damped Hessian, columns in `order`."""
    mean = power.mean()
    damped = hessian + np.eye(len(power)) * (_DAMPING * mean if mean > 0 else 1.0)
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    return np.linalg.cholesky(inverse).T


def _round_columns(weight: Floats, scales: Floats, upper: NDArray[np.float64], grid: Grid) -> Codes:
    left = weight.astype(np.float64)
    columns = left.shape[1]
    codes = np.zeros(left.shape, np.int8)
    for start in range(0, columns, _COLUMNS_AT_ONCE):
        stop = min(start + _COLUMNS_AT_ONCE, columns)
        errors = np.zeros((left.shape[0], stop - start))
        for j in range(start, stop):
            code = np.clip(np.rint(left[:, j] / scales[:, j]), grid.lowest, grid.highest)
            codes[:, j] = code
            errors[:, j - start] = (left[:, j] - code * scales[:, j]) / upper[j, j]
            left[:, j:stop] -= errors[:, j - start, None] * upper[j, j:stop]
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return codes
