"""Order statistics: distribution-free intervals of quantiles.

The interval of a quantile is taken between two order statistics: the number of n independent
samples below the q-quantile is binomial(n, q). See H. A. David and H. N. Nagaraja, Order
Statistics, 3rd edition, section 7.1. Runs on a busy machine are not quite independent; the interval
is then slightly too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeq.measure.records import Quantile

ERROR = 0.025
"""Probability that either end of a 95 % interval is on the wrong side by chance."""
Tails = tuple[float, float]


def quantile(samples: Sequence[float], q: float, tails: Tails = (ERROR, ERROR)) -> Quantile:
    """The q-quantile of `samples` (seconds) and its interval, q in (0, 1); see `interval_ranks`.

    The value is the order statistic ⌈nq⌉, the inverse of the empirical distribution (Hyndman and
    Fan 1996, definition 1), which always lies in the interval.
    """
    ordered = sorted(samples)
    low, high = interval_ranks(len(ordered), q, tails)
    return Quantile(
        seconds=ordered[max(1, math.ceil(len(ordered) * q)) - 1],
        low_seconds=ordered[low - 1] if low else 0.0,
        high_seconds=ordered[high - 1] if high <= len(ordered) else None,
    )


def interval_ranks(n: int, q: float, tails: Tails = (ERROR, ERROR)) -> tuple[int, int]:
    """Ranks (from 1) of the order statistics that enclose the q-quantile of n samples.

    Each end misses it with a probability of at most its share of `tails`. Rank 0 or n + 1: the
    samples are too few to bound that side.
    """
    if n == 0:
        raise ValueError("no samples")
    below = np.cumsum(_binomial(n, q))  # below[k]: at most k samples are below the quantile
    above = np.cumsum(_binomial(n, q)[::-1])[::-1]  # above[k]: at least k are
    # Missed on the left if fewer than `low` lie below it, on the right if `high` or more do.
    low = int(np.searchsorted(below, tails[0], side="right"))
    high = int(np.count_nonzero(above > tails[1]))
    return low, high


def _binomial(n: int, q: float) -> npt.NDArray[np.float64]:
    """P(k successes of n) for k = 0 … n, through logarithms so that no term overflows."""
    k = np.arange(n)
    ratios = np.log(n - k) - np.log(k + 1) + math.log(q) - math.log1p(-q)
    logs: npt.NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(ratios)])
    weights = np.exp(logs - logs.max())
    result: npt.NDArray[np.float64] = weights / weights.sum()
    return result
