"""GPTQ: round column by column and let the remaining columns compensate for the error.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", 2022, arXiv:2210.17323, algorithm 1, with columns taken in the order of
decreasing input power ("act-order") and scales fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeq.core.threads import map_in_threads
from edgeq.quantize.methods.base import RoundingMethod, Statistics
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.methods.objective import Moments, Objective, objective, row_blocks
from edgeq.quantize.methods.refine import refine
from edgeq.quantize.methods.scales import starting_point
from edgeq.quantize.number_formats.base import Codes, Floats, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat

_COLUMNS_AT_ONCE = 64
# Fractions of the mean input power, to choose from by held-out samples: a tenth with fifty thousand
# rows of calibration data, one and more with a few hundred.
_SMALLER, _USUAL_DAMPING, _LARGER = (0.1,), 0.3, (1.0, 3.0)
_ROWS_THAT_JUDGE = 256  # rows of a weight at most, spread over it, to choose a damping
# Rows are independent: blocks of them go to threads, and limit the memory of a table. Their size
# does not depend on the number of threads, so that codes do not either.
_FEWEST_ROWS, _ROWS_AT_ONCE = 256, 4096
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
        moments, damping = best_aim(weight, statistics)
        _ = moments.factors.damped(damping).hessian  # once, before threads share it
        at_once = min(max(len(weight) // 4, _FEWEST_ROWS), _ROWS_AT_ONCE)
        parts = map_in_threads(
            lambda rows: _round_rows(weight[rows], moments.of_rows(rows), damping, number_format),
            row_blocks(len(weight), at_once),
        )
        codes, scales = (np.concatenate(each) for each in zip(*parts, strict=True))
        return QuantizedTensor(number_format, codes, scales, self.name)


GPTQ = Gptq()


def _round_rows(
    weight: Floats, moments: Moments, damping: float, number_format: IntegerFormat
) -> tuple[Codes, Floats]:
    target = objective(weight, moments, damping)
    power = np.diag(target.hessian).copy()
    scales = starting_point(target.weight, number_format, power, GPTQ.name).scales
    codes = feed_errors(target, number_format, scales)
    if number_format.group_size is not None:
        codes, scales = refine(target, number_format, codes, scales, _SWEEPS)
    return codes, scales


def best_aim(weight: Floats, statistics: Statistics) -> tuple[Moments, float]:
    """Moments and damping whose unrounded weight is best on the held-out samples.

    Among several dampings and the float weight itself. Weights that share moments take the damping
    of the first.
    """
    moments, held_back = statistics.moments, statistics.held_back
    assert moments is not None
    if held_back is None or moments.drift is None:
        return moments, _USUAL_DAMPING
    judges = slice(None, None, -(-len(weight) // _ROWS_THAT_JUDGE))
    some = weight[judges]
    missed, judge = moments.of_rows(judges).missed(some), held_back.of_rows(judges).judge(some)
    assert missed is not None

    def error(damping: float) -> float:
        return judge(some + moments.factors.damped(damping).times_inverse(missed))

    if moments.factors.chosen is None:
        moments.factors.chosen = _best_damping(error)
    damping = moments.factors.chosen
    if error(damping) < 0:
        return moments, damping
    return moments.as_if_whole(), _USUAL_DAMPING


def _best_damping(error: Callable[[float], float]) -> float:
    least, damping = error(_USUAL_DAMPING), _USUAL_DAMPING
    for others in (_LARGER, _SMALLER):  # each costs a factorization: go where it gets better
        for other in others if damping == _USUAL_DAMPING else ():
            found = error(other)
            if found >= least:
                break
            least, damping = found, other
    return damping


def feed_errors(target: Objective, number_format: IntegerFormat, scales: Floats) -> Codes:
    """Codes of `target.weight` with the given scales, int8 `(rows, columns)`."""
    columns = target.weight.shape[1]
    order = target.damped.order
    steps, offsets = number_format.affine(scales, columns)
    ends = number_format.lowest, number_format.highest
    codes = _round_columns(
        target.weight[:, order], steps[:, order], offsets[:, order], target.damped.upper, ends
    )
    return codes[:, np.argsort(order)]


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
            wished = left[j] - upper[start:j, j] @ errors[: j - start] - offsets[j]
            code = np.rint(wished * inverse[j]).clip(*ends)
            codes[j] = code
            errors[j - start] = (wished - code * steps[j]) / upper[j, j]
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return np.ascontiguousarray(codes.T)
