"""Latency: when to stop timing, and what the samples say about a quantile.

The interval of a quantile is taken between two order statistics and holds for any distribution:
the number of n independent samples below the q-quantile is binomial(n, q). See H. A. David and
H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1. Runs on a busy machine are not quite
independent; the interval is then somewhat too narrow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.core.terms import Effort
from edgeq.measure.records import Conditions, Latency, Quantile

WARMUP_RUNS = 5
QUICK_RUNS, QUICK_SECONDS = 128, 10.0
FULL_RUNS, FULL_SECONDS = 1024, 60.0
P99_SAMPLES = 1000
_CONFIDENCE = 0.95
_KEPT_SAMPLES = 10_000  # a full pass of a 50 µs model would otherwise write a million numbers


@dataclass(frozen=True)
class Timing:
    """Seconds of the timed runs, in order, and how many runs there were after warm-up."""

    seconds: list[float]
    runs: int


def time_runs(
    run: Callable[[], object], effort: Effort, clock: Callable[[], float] = time.perf_counter
) -> Timing:
    """Warm up, then time single runs: quick ≤ 128 and ≤ 10 s, full ≥ 1024 and ≥ 60 s.

    Where a full pass would time more than 10,000 runs, only every n-th is timed, evenly.
    `clock` gives seconds.
    """
    warmup = []
    for _ in range(WARMUP_RUNS):
        start = clock()
        run()
        warmup.append(clock() - start)
    typical = sorted(warmup)[WARMUP_RUNS // 2]
    stride = 1
    if effort == "full" and typical > 0:
        stride = max(1, math.ceil(FULL_SECONDS / typical / _KEPT_SAMPLES))
    seconds: list[float] = []
    begin = end = clock()
    while not _is_enough(len(seconds), end - begin, effort):
        for _ in range(stride - 1):
            run()
        start = clock()
        run()
        end = clock()
        seconds.append(end - start)
    return Timing(seconds, len(seconds) * stride)


def _is_enough(samples: int, elapsed: float, effort: Effort) -> bool:
    if effort == "quick":
        return samples >= QUICK_RUNS or (samples > 0 and elapsed >= QUICK_SECONDS)
    return samples >= FULL_RUNS and elapsed >= FULL_SECONDS


def summarise(
    timing: Timing,
    load_seconds: float,
    conditions: Conditions,
    compiled_load_seconds: float | None = None,
) -> Latency:
    """What the times of `timing` say; the loading times are as `Latency` has them."""
    seconds = timing.seconds
    return Latency(
        load_seconds=load_seconds,
        compiled_load_seconds=compiled_load_seconds,
        warmup_runs=WARMUP_RUNS,
        runs=timing.runs,
        samples_seconds=tuple(seconds),
        p50=quantile(seconds, 0.5),
        p90=quantile(seconds, 0.9),
        p99=quantile(seconds, 0.99) if len(seconds) >= P99_SAMPLES else None,
        conditions=conditions,
    )


def quantile(samples: Sequence[float], q: float, confidence: float = _CONFIDENCE) -> Quantile:
    """The q-quantile of `samples` (seconds) and its interval, q in (0, 1).

    The value is the order statistic ⌈nq⌉, the inverse of the empirical distribution (Hyndman and
    Fan 1996, definition 1), which always lies in the interval.
    """
    ordered = sorted(samples)
    low, high = interval_ranks(len(ordered), q, confidence)
    return Quantile(
        seconds=ordered[max(1, math.ceil(len(ordered) * q)) - 1],
        low_seconds=ordered[low - 1] if low else 0.0,
        high_seconds=ordered[high - 1] if high <= len(ordered) else None,
    )


def interval_ranks(n: int, q: float, confidence: float) -> tuple[int, int]:
    """Ranks (from 1) of the order statistics that enclose the q-quantile of n samples.

    Each side misses it with a probability of at most (1 − confidence)/2. Rank 0 or n + 1: the
    samples are too few to bound that side.
    """
    if n == 0:
        raise ValueError("no samples")
    tail = (1 - confidence) / 2
    below = np.cumsum(_binomial(n, q))  # below[k]: at most k samples are below the quantile
    above = np.cumsum(_binomial(n, q)[::-1])[::-1]  # above[k]: at least k are
    # Missed on the left when fewer than `low` lie below it, on the right when `high` or more do.
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.count_nonzero(above > tail))
    return low, high


def _binomial(n: int, q: float) -> npt.NDArray[np.float64]:
    """P(k successes of n) for k = 0 … n, through logarithms so that no term overflows."""
    k = np.arange(n)
    ratios = np.log(n - k) - np.log(k + 1) + math.log(q) - math.log1p(-q)
    logs: npt.NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(ratios)])
    weights = np.exp(logs - logs.max())
    result: npt.NDArray[np.float64] = weights / weights.sum()
    return result
