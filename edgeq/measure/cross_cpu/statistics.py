"""Compare two places' answers to the same question, and decide whether they differ.

*Noise* is legitimate: two correct kernels for one operator round differently. Three answers to the
same inputs are compared: that of the place, that of the reference, and the *exact* one, for which
the reference computes without rounding inputs to 8 bits if an operator may do that (otherwise it is
the reference's own). Noise is the larger of

- the reference's distance from the exact answer, and

- the change of the reference's answer when its float inputs move by `NUDGE`, about ten times the
effect of another order of summation; so codes flipped by rounding are included.

An answer differs if its distance from the exact one exceeds what noise explains, overall (root mean
square) or in one element, or if it is *biased*: the slope of a regression through the origin on the
exact answer is not 1. A bias vanishes in means of signed differences, since outputs have both
signs, and in a cosine, which ignores length; but it accumulates from layer to layer. The interval
of the slope is a jackknife's over groups of rows: elements of a row share its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edgeq.core.artifact import Frozen

Array = npt.NDArray[Any]

NUDGE = 1e-5
"""Relative change of inputs, one standard deviation, that no correct kernel may amplify beyond
noise."""
OPERATOR_TIMES = 4.0
"""Tolerated multiple of the noise: it is measured on other values than those it is applied to.
"""
WHOLE_TIMES = 1.0
"""The same for a whole artifact's outputs, whose noise is the effect of quantization: another CPU
may not
deviate more."""
LEAST_RMS = 1e-3  # fraction of the output: no format of 8 bits or fewer is that exact
_LEAST_MAX = 2e-2  # fraction of the output's RMS: more than one flipped code does to an element
_LEAST_BIAS = 1e-3  # over ten layers, this is 1 %
_GROUPS = 50  # groups of rows, for the jackknife
_FEWEST_GROUPS = 8  # fewer rows give no estimate of their spread
_Z = 5.0  # one in two million by chance: hundreds of operators are tested in many places


class Statistics(Frozen):
    """An answer of a place compared with the exact one; everything except `elements` is relative.

    Fractions of the exact answer's root mean square (RMS), or ratios to it.
    """

    elements: int = Field(description="Number of values compared.")
    rms: float = Field(description="RMS of the difference from the exact answer.")
    largest: float = Field(description="The largest difference of one element.")
    noise_rms: float = Field(
        description="RMS of differences between correct kernels; for whole outputs, the effect of "
        "quantization, and 0 without full precision."
    )
    noise_largest: float = Field(description="The largest of these differences.")
    norm_ratio: float = Field(description="Length of the answer divided by that of the exact one.")
    slope: float = Field(
        description="Slope of a regression through the origin on the exact answer."
    )
    slope_low: float | None = Field(
        description="Lower end of its interval; null if there are too few rows."
    )
    slope_high: float | None = Field(description="Upper end of its interval.")
    finite: bool = Field(description="Whether NaN and infinities are in the expected places.")

    def allowed(self, times: float = OPERATOR_TIMES) -> float:
        """The largest `rms` explained by `times` the noise."""
        return max(LEAST_RMS, times * self.noise_rms)

    def faults(self, times: float = OPERATOR_TIMES) -> list[str]:
        """List how this exceeds `times` the noise; empty if it does not."""
        if not self.finite:
            return ["NaN or infinity where there should be none"]
        found = []
        if self.rms > self.allowed(times):
            found.append(f"off by {self.rms:.2%} of the output, noise is {self.noise_rms:.2%}")
        elif self.largest > max(_LEAST_MAX, times * self.noise_largest):
            found.append(f"one element off by {self.largest:.1%} of the output's size")
        if self.slope_low is not None and self.slope_high is not None:
            low, high = self.slope_low - 1, self.slope_high - 1
            # Errors in the regressor flatten a slope by their share of its variance.
            least = _LEAST_BIAS + self.rms**2
            if low > least or high < -least:
                size = f"{self.slope - 1:+.2%} (between {low:+.2%} and {high:+.2%})"
                found.append(f"magnitude biased by {size}")
        return found


class Expected:
    """The exact answers and their noise, in sizes that are computed once for all places.

    exact: sample by sample, in arrays of equal shapes. noises: other legitimate answers of the same
    shapes, whose distance defines the noise; for answers to perturbed inputs, pass exact +
    (perturbed − unperturbed).
    """

    def __init__(self, exact: Sequence[Array], noises: Sequence[Sequence[Array]]) -> None:
        wanted = _rows(exact)
        self._finite = np.isfinite(wanted)
        self._others = wanted[~self._finite]
        self._wanted = wanted = np.where(self._finite, wanted, 0)
        self._size = _rms(wanted) or 1.0
        distances = [np.where(self._finite, _rows(noise), 0) - wanted for noise in noises]
        self._noise_rms = max(map(_rms, distances), default=0.0) / self._size
        self._noise_largest = max(map(_largest, distances), default=0.0) / self._size

    def compare(self, answers: Sequence[Array]) -> Statistics:
        """Compare the answers of a place."""
        given, wanted = _rows(answers), self._wanted
        finite = np.isfinite(given)
        same_places = bool((finite == self._finite).all())
        same_values = np.array_equal(given[~self._finite], self._others, equal_nan=True)
        given = np.where(self._finite & finite, given, 0)
        distance = given - wanted
        slope, error = _slope(given, wanted)
        return Statistics(
            elements=wanted.size,
            rms=_rms(distance) / self._size,
            largest=_largest(distance) / self._size,
            noise_rms=self._noise_rms,
            noise_largest=self._noise_largest,
            norm_ratio=_norm_ratio(given, wanted),
            slope=slope,
            slope_low=None if error is None else slope - _Z * error,
            slope_high=None if error is None else slope + _Z * error,
            finite=same_places and same_values,
        )


def compare(
    answers: Sequence[Array], exact: Sequence[Array], noises: Sequence[Sequence[Array]]
) -> Statistics:
    """Compare `answers` of one place with the `exact` ones, see `Expected`."""
    return Expected(exact, noises).compare(answers)


def _rows(arrays: Sequence[Array]) -> npt.NDArray[np.float64]:
    """All samples as float64 (rows, length of the last axis, or 1 where outputs differ in it)."""
    widths = {array.shape[-1] if array.ndim else 1 for array in arrays}
    width = widths.pop() if len(widths) == 1 else 1
    flat = [array.reshape(-1, width) for array in arrays]
    return np.concatenate(flat).astype(np.float64)


def _slope(
    given: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]
) -> tuple[float, float | None]:
    """Slope through the origin and its standard error, None with too few rows."""
    products, squares = (given * wanted).sum(axis=1), (wanted * wanted).sum(axis=1)
    total, weight = products.sum(), squares.sum()
    if weight == 0:
        return 1.0, None
    count = min(_GROUPS, len(products))
    # Neighbours go to the same group: a disturbance of one row affects adjacent rows.
    bounds = np.linspace(0, len(products), count + 1).astype(int)[:-1]
    left = total - np.add.reduceat(products, bounds)
    remaining = weight - np.add.reduceat(squares, bounds)
    if count < _FEWEST_GROUPS or (remaining <= 0).any():
        return float(total / weight), None
    without = left / remaining
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    return float(total / weight), error


def _norm_ratio(given: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> float:
    length = float(np.linalg.norm(wanted))
    return float(np.linalg.norm(given)) / length if length else 1.0


def _rms(values: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _largest(values: npt.NDArray[np.float64]) -> float:
    return float(np.abs(values).max(initial=0))
