"""GPTQ: round column by column and let the remaining columns compensate for the error.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", 2022, arXiv:2210.17323, algorithm 1, with columns taken in the order of
decreasing input power ("act-order") and scales fixed beforehand.
"""

from __future__ import annotations

import numpy as np

from edgeq.quantize.methods.base import RoundingMethod, Statistics
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.methods.objective import Objective, objective
from edgeq.quantize.methods.refine import refine
from edgeq.quantize.methods.scales import starting_point
from edgeq.quantize.number_formats.base import Codes, Floats, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat

_COLUMNS_AT_ONCE = 128
_SMALLEST_HALF = 64
# Fractions of the mean input power, to choose from by held-out samples: a tenth with fifty thousand
# rows of calibration data, one and more with a few hundred.
_DAMPINGS = (0.1, 0.3, 1.0, 3.0)
_USUAL_DAMPING = 0.3
_ROWS_THAT_JUDGE = 512  # rows of a weight at most, spread over it, to choose a damping
_SWEEPS = 3  # sweeps of descent after GPTQ; a fourth gains a percent


class Gptq(RoundingMethod):
    """Errors are fed to the remaining columns, then codes and scales are refined one by one."""

    name = "gptq"
    title = "GPTQ"
    summary = (
        "GPTQ rounds a layer's weights one after the other, and after each it corrects those that "
        "are still to come, so that errors cancel instead of adding up."
    )
    source = "Frantar and others, GPTQ, https://arxiv.org/abs/2210.17323"
    reads = "moments"
    needs_calibration = True
    in_sequence = True
    rounds_tables = True
    proxy = "importance"

    def rounds_onto(self, number_format: NumberFormat) -> bool:
        """Every number format with uniform steps."""
        return isinstance(number_format, IntegerFormat)

    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        """The damping of the target is chosen by held-out samples, if there are any."""
        if statistics is None or statistics.moments is None:
            return NEAREST.round(weight, statistics, number_format)
        assert isinstance(number_format, IntegerFormat)
        target = _target(weight, statistics)
        power = np.diag(target.hessian).copy()
        scales = starting_point(target.weight, number_format, power, self.name).scales
        codes = feed_errors(target, number_format, scales)
        if number_format.group_size is not None:
            codes, scales = refine(target, number_format, codes, scales, _SWEEPS)
        return QuantizedTensor(number_format, codes, scales, self.name)


GPTQ = Gptq()


def _target(weight: Floats, statistics: Statistics) -> Objective:
    """The unrounded weight that is best on the held-out samples, among several and the float
    one."""
    moments, held_back = statistics.moments, statistics.held_back
    assert moments is not None
    if held_back is None or moments.drift is None:
        return objective(weight, moments, _USUAL_DAMPING)
    judges = slice(None, None, -(-len(weight) // _ROWS_THAT_JUDGE))
    some, fit, judge = weight[judges], moments.of_rows(judges), held_back.of_rows(judges)
    tried = (objective(some, fit, damping).weight for damping in _DAMPINGS)
    error, damping = min(zip(judge.errors(some, tried), _DAMPINGS, strict=True))
    if error < 0:
        return objective(weight, moments, damping)
    return objective(weight, moments.as_if_whole(), _USUAL_DAMPING)


def feed_errors(target: Objective, number_format: IntegerFormat, scales: Floats) -> Codes:
    """Codes of `target.weight` with the given scales, int8 `(rows, columns)`."""
    columns = target.weight.shape[1]
    order = np.argsort(-np.diag(target.hessian), kind="stable")
    upper = _inverse_factor(target.hessian[np.ix_(order, order)])
    steps, offsets = number_format.affine(scales, columns)
    ends = number_format.lowest, number_format.highest
    codes = _round_columns(target.weight[:, order], steps[:, order], offsets[:, order], upper, ends)
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
    weight: Floats, steps: Floats, offsets: Floats, upper: Floats, ends: tuple[int, int]
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
            code = np.rint((left[j] - offsets[j]) * inverse[j]).clip(*ends)
            codes[j] = code
            errors[j - start] = (left[j] - code * steps[j] - offsets[j]) / upper[j, j]
            left[j + 1 : stop] -= upper[j, j + 1 : stop, None] * errors[j - start]
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return np.ascontiguousarray(codes.T)
