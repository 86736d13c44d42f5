"""Enough runs for a time budget, and no more: a sequential test with a bounded error.

Whether a quantile of the time keeps a limit is tested at several sample sizes; each time the
interval is the binomial one of `edgeq.measure.latency`. Its lower end (which proves a miss) and its
upper end (which proves that a limit is kept) may each be wrong in 2.5 % of measurements, over all
looks: two thirds of that is spent at the first look with enough samples for the end, and half of
the remainder at every further one (Bonferroni: the sum bounds the error). So a budget that is far
away is decided after 6 runs, and the earliest that a p90 can be proven is after 39.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeq.core.terms import Effort
from edgeq.measure.order_statistics import ERROR, quantile

_FIRST = 2 / 3
_GROWTH = 1.5
_USUAL_SECONDS: dict[Effort, float] = {"quick": 60.0, "full": 600.0}
_MOST_SECONDS: dict[Effort, float] = {"quick": 600.0, "full": 1800.0}


@dataclass(frozen=True)
class Limit:
    """The q-quantile of a time must be at most `seconds`."""

    q: float
    seconds: float


def needed(q: float) -> int:
    """The fewest samples that can prove a q-quantile kept: all of them are below the limit.

    >>> needed(0.5), needed(0.9)
    (6, 39)
    """
    return math.ceil(math.log(_FIRST * ERROR) / math.log(q))


def tails(q: float, looks: Sequence[int]) -> tuple[float, float]:
    """The error probabilities of the two ends of an interval at the last of `looks`, sample sizes.

    Without looks nothing was decided earlier, and the whole error is available to the only
    interval.
    """
    return (_tail(1 - q, looks), _tail(q, looks)) if looks else (ERROR, ERROR)


def _tail(chance: float, looks: Sequence[int]) -> float:
    """chance: that one sample is on the wrong side of the quantile for this end."""
    usable = sum(chance**size <= _FIRST * ERROR for size in looks)
    return _FIRST * ERROR if usable < 2 else (1 - _FIRST) * ERROR / 2 ** (usable - 1)


def is_decided(samples: Sequence[float], limit: Limit, looks: Sequence[int]) -> bool:
    """Whether the limit lies outside the interval at the last of `looks`."""
    found = quantile(samples, limit.q, tails(limit.q, looks))
    kept = found.high_seconds is not None and found.high_seconds <= limit.seconds
    return kept or found.low_seconds > limit.seconds


def settle(
    samples: Sequence[float],
    limits: Sequence[Limit],
    take: Callable[[], object],
    effort: Effort,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, ...]:
    """Let `take` add to `samples` until every limit is decided; returns the sample sizes tested.

    Ends undecided after 60 s (full: 10 min) once there are as many as a decision needs at least,
    and after 10 min (full: 30 min) in any case. `clock` gives seconds.
    """
    looks: list[int] = []
    begin = clock()
    is_over = False
    while limits:
        looks.append(len(samples))
        still = [limit for limit in limits if not is_decided(samples, limit, looks)]
        if not still or is_over:
            break
        least = max(needed(limit.q) for limit in still)
        size = max(least, math.ceil(_GROWTH * len(samples)))
        while len(samples) < size and not is_over:
            take()
            elapsed = clock() - begin
            is_usual = elapsed >= _USUAL_SECONDS[effort] and len(samples) >= least
            is_over = is_usual or elapsed >= _MOST_SECONDS[effort]
    return tuple(looks)
