"""Order statistics against exact binomial sums, coverage on simulated runs, when timing stops."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.measure.latency import Timing, time_runs
from edgeq.measure.order_statistics import interval_ranks, quantile
from tests.support.properties import examples

CONFIDENCE = 0.95


def at_most(k: int, n: int, q: Fraction) -> Fraction:
    """P(binomial(n, q) ≤ k), exactly."""
    terms = (math.comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(k + 1))
    return sum(terms, start=Fraction(0))


@examples(150)
@given(n=st.integers(1, 60), tenths=st.integers(1, 19))
def test_ranks_are_the_tightest_that_the_exact_binomial_allows(n: int, tenths: int) -> None:
    q = Fraction(tenths, 20)
    tail = Fraction(1, 40)
    low, high = interval_ranks(n, float(q))
    assert 0 <= low < high <= n + 1
    if low > 0:
        assert at_most(low - 1, n, q) <= tail
    assert at_most(low, n, q) > tail
    if high <= n:
        assert 1 - at_most(high - 1, n, q) <= tail
    assert 1 - at_most(high - 2, n, q) > tail


@pytest.mark.parametrize(("n", "expected"), [(5, (0, 6)), (6, (1, 6)), (10, (2, 9)), (20, (6, 15))])
def test_known_intervals_of_the_median(n: int, expected: tuple[int, int]) -> None:
    # Tables of the sign test, e.g. Conover, Practical Nonparametric Statistics.
    assert interval_ranks(n, 0.5) == expected


@pytest.mark.parametrize("n", [20, 128, 1024])
@pytest.mark.parametrize("q", [0.5, 0.9])
def test_interval_covers_the_true_quantile(n: int, q: float) -> None:
    rng = np.random.default_rng(n)
    trials = 2000
    samples = np.sort(rng.exponential(size=(trials, n)), axis=1)
    low, high = interval_ranks(n, q)
    truth = -math.log1p(-q)
    above = samples[:, low - 1] <= truth if low else np.full(trials, True)
    below = samples[:, high - 1] >= truth if high <= n else np.full(trials, True)
    noise = 4 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / trials)
    assert (above & below).mean() >= CONFIDENCE - noise


def test_a_million_samples_are_bounded_near_the_quantile() -> None:
    low, high = interval_ranks(1_000_000, 0.9)
    width = 1.96 * math.sqrt(1_000_000 * 0.9 * 0.1)
    assert low == pytest.approx(900_000 - width, abs=3)
    assert high == pytest.approx(900_000 + width, abs=3)


times = st.lists(st.floats(1e-6, 10), min_size=1, max_size=300)


@settings(deadline=None)
@given(samples=times, q=st.sampled_from([0.1, 0.5, 0.9, 0.99]))
def test_quantile_is_a_sample_inside_its_interval(samples: list[float], q: float) -> None:
    found = quantile(samples, q)
    assert found.seconds in samples
    assert found.low_seconds <= found.seconds
    assert found.high_seconds is None or found.seconds <= found.high_seconds
    assert sum(sample <= found.seconds for sample in samples) >= len(samples) * q


@settings(deadline=None)
@given(samples=times)
def test_quantiles_and_intervals_are_monotone(samples: list[float]) -> None:
    found = [quantile(samples, q) for q in (0.25, 0.5, 0.9)]
    for smaller, larger in itertools.pairwise(found):
        assert smaller.seconds <= larger.seconds
        assert smaller.low_seconds <= larger.low_seconds
    narrow, wide = quantile(samples, 0.5, (0.1, 0.1)), quantile(samples, 0.5, (0.005, 0.005))
    assert wide.low_seconds <= narrow.low_seconds
    if wide.high_seconds is not None:
        assert narrow.high_seconds is not None
        assert narrow.high_seconds <= wide.high_seconds


def test_too_few_samples_leave_the_upper_end_open() -> None:
    found = quantile([1.0, 2.0, 3.0], 0.9)
    assert (found.seconds, found.low_seconds, found.high_seconds) == (3.0, 1.0, None)
    found = quantile([2.0], 0.5)
    assert (found.seconds, found.low_seconds, found.high_seconds) == (2.0, 0.0, None)


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_each_end_has_the_error_of_its_own(q: float) -> None:
    even, left, right = (
        interval_ranks(200, q, tails) for tails in ((0.025, 0.025), (0.2, 0.025), (0.025, 0.2))
    )
    assert left[1] == even[1] and left[0] > even[0]
    assert right[0] == even[0] and right[1] < even[1]
    ordered = [float(rank) for rank in range(1, 201)]
    found = quantile(ordered, q, (0.2, 0.025))
    assert (found.low_seconds, found.high_seconds) == left


def test_no_samples_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        interval_ranks(0, 0.5)


class Model:
    """Takes a fixed time on a clock of its own, and counts its runs."""

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self.runs = 0
        self._seconds = seconds

    def run(self) -> None:
        self.now += self._seconds
        self.runs += 1

    def clock(self) -> float:
        return self.now

    def timed(self, effort: str) -> Timing:
        return time_runs(self.run, effort, clock=self.clock)  # type: ignore[arg-type]


def test_quick_stops_at_128_runs() -> None:
    model = Model(0.004)
    timing = model.timed("quick")
    assert timing.runs == len(timing.seconds) == 128
    assert model.runs == 128 + 5
    assert timing.seconds == pytest.approx([0.004] * 128)


@pytest.mark.parametrize(("seconds", "runs"), [(1.0, 10), (3.0, 4), (60.0, 1)])
def test_quick_stops_after_ten_seconds(seconds: float, runs: int) -> None:
    assert Model(seconds).timed("quick").runs == runs


def test_full_takes_1024_runs_however_long() -> None:
    assert Model(0.5).timed("full").runs == 1024


def test_full_takes_60_seconds_however_short_a_run() -> None:
    model = Model(0.02)
    assert model.timed("full").runs * 0.02 >= 60
    tiny = Model(0.001)
    timing = tiny.timed("full")
    assert timing.runs * 0.001 >= 60 - 0.01
    assert 1024 <= len(timing.seconds) <= 10_001
    assert timing.runs + 5 == tiny.runs
