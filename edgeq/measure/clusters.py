"""Means and quantiles of clustered values, with cluster-robust standard errors.

The tokens of one window share its context, so their values are correlated; treated as independent,
they would suggest a precision that does not exist. Every window is one cluster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.measure.intervals import NORMAL_95

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    error: float


def mean(clusters: Sequence[Doubles]) -> Estimate:
    """Mean of the values of two or more clusters and its cluster-robust standard error.

    SE² = G/(G−1) · Σ_g (Σ_{i∈g} (x_i − x̄))² / N² for G clusters and N values: the sandwich
    estimator of Liang & Zeger (1986) for a regression on a constant, with the usual correction for
    few clusters (Cameron & Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference",
    section II). With clusters of equal size it is the standard deviation of the cluster means
    divided by √G.
    """
    total = sum(map(len, clusters))
    centre = math.fsum(math.fsum(values) for values in clusters) / total
    count = len(clusters)
    sums = [math.fsum(values - centre) for values in clusters]
    squares = math.fsum(part * part for part in sums)
    return Estimate(centre, math.sqrt(count / (count - 1) * squares) / total)


def quantile(clusters: Sequence[Doubles], share: float) -> Estimate:
    """The value that `share` of all values do not exceed, and its standard error.

    Linear between the two nearest values. The error is Woodruff's (1952, "Confidence Intervals for
    Medians and Other Position Measures"): the 95 % interval of the share of values up to the
    quantile, clustered as in `mean`, is mapped to values, and their distance divided by 2·1.96.
    Near the largest value the interval ends there, and the error is underestimated.
    """
    ordered = np.sort(np.concatenate(clusters))
    value = float(np.quantile(ordered, share))
    spread = NORMAL_95 * mean([(part <= value).astype(np.float64) for part in clusters]).error
    ends = np.quantile(ordered, [max(0.0, share - spread), min(1.0, share + spread)])
    return Estimate(value, float(ends[1] - ends[0]) / (2 * NORMAL_95))
