"""GPTQ: round column by column and let the columns still to come make up for the error.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", 2022, arXiv:2210.17323, algorithm 1, with columns taken in the order
of falling input power ("act-order") and scales fixed beforehand.
"""

from __future__ import annotations

import numpy as np

from edgeq.quantize.methods.objective import Objective
from edgeq.quantize.number_formats.groups import Codes, Floats, Grid

_COLUMNS_AT_ONCE = 128
_SMALLEST_HALF = 64


def feed_errors(target: Objective, grid: Grid, scales: Floats) -> Codes:
    """Codes of `target.weight` on `grid` with the given scales, int8 `(rows, columns)`."""
    columns = target.weight.shape[1]
    order = np.argsort(-np.diag(target.hessian), kind="stable")
    upper = _inverse_factor(target.hessian[np.ix_(order, order)])
    steps, offsets = grid.affine(scales, columns)
    codes = _round_columns(target.weight[:, order], steps[:, order], offsets[:, order], upper, grid)
    return codes[:, np.argsort(order)]


def _inverse_factor(hessian: Floats) -> Floats:
    """Upper Cholesky factor of the inverse.

    That is the inverse of the lower factor of the Hessian taken from its last row and column on.
    """
    reverse = np.linalg.cholesky(hessian[::-1, ::-1])
    _invert_lower(reverse)
    return np.ascontiguousarray(reverse[::-1, ::-1])


def _invert_lower(factor: Floats) -> None:
    """Invert a lower triangular matrix in place, by halves: products do nearly all the work."""
    size = len(factor)
    if size <= _SMALLEST_HALF:
        factor[:] = np.tril(np.linalg.inv(factor))
        return
    half = size // 2
    first, last, between = factor[:half, :half], factor[half:, half:], factor[half:, :half]
    _invert_lower(first)
    _invert_lower(last)
    between[:] = -(last @ (between @ first))


def _round_columns(
    weight: Floats, steps: Floats, offsets: Floats, upper: Floats, grid: Grid
) -> Codes:
    left = weight.T.copy()  # columns first: each is then one run of memory
    steps, offsets = np.ascontiguousarray(steps.T), np.ascontiguousarray(offsets.T)
    inverse = np.divide(1, steps, out=np.zeros_like(steps), where=steps != 0)
    columns = len(left)
    codes = np.zeros(left.shape, np.int8)
    for start in range(0, columns, _COLUMNS_AT_ONCE):
        stop = min(start + _COLUMNS_AT_ONCE, columns)
        errors = np.empty((stop - start, left.shape[1]), np.float32)
        for j in range(start, stop):
            code = np.rint((left[j] - offsets[j]) * inverse[j]).clip(grid.lowest, grid.highest)
            codes[j] = code
            errors[j - start] = (left[j] - code * steps[j] - offsets[j]) / upper[j, j]
            left[j + 1 : stop] -= upper[j, j + 1 : stop, None] * errors[j - start]
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return np.ascontiguousarray(codes.T)
