"""Formulas of intervals, each against its definition written out or another library's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.sampling import LEAST_SAMPLES
from edgeq.measure.intervals import (
    NORMAL_95,
    effective_count,
    ratio_bounds,
    resampled_bounds,
    samples_for,
    share_bounds,
    student_95,
)
from tests.support.properties import examples


def standard_error(numerators: np.ndarray, denominators: np.ndarray) -> float:
    """Of a ratio of sums, by linearization (Cochran 1977, *Sampling Techniques*, 2.11)."""
    residuals = numerators - numerators.sum() / denominators.sum() * denominators
    size = len(residuals)
    return float(math.sqrt(size * residuals.var(ddof=1)) / denominators.sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_ratio_is_studentized_resample_by_resample(seed: int) -> None:
    """Efron and Tibshirani's recipe on resamples that are drawn out, sample by sample."""
    generator = np.random.default_rng(seed)
    bottom = generator.uniform(0.5, 4, LEAST_SAMPLES)
    top = bottom * generator.uniform(0.2, 1, LEAST_SAMPLES)
    ratio, error = top.sum() / bottom.sum(), standard_error(top, bottom)
    distances = []
    for _ in range(4000):
        drawn = generator.integers(0, len(top), len(top))
        own = standard_error(top[drawn], bottom[drawn])
        distances.append((top[drawn].sum() / bottom[drawn].sum() - ratio) / own)
    low, high = np.quantile(distances, [0.025, 0.975])
    found = ratio_bounds(top, bottom)
    assert found is not None
    assert found.low == pytest.approx(ratio - error * high, abs=0.2 * error)
    assert found.high == pytest.approx(ratio - error * low, abs=0.2 * error)


def test_the_same_samples_have_the_same_interval() -> None:
    values = np.random.default_rng(2).uniform(0.9, 1, 50)
    assert ratio_bounds(values, np.ones(50)) == ratio_bounds(values.copy(), np.ones(50))
    first, again = (resampled_bounds(50, lambda drawn: float(values[drawn].max())) for _ in "12")
    assert first == again


def test_percentiles_of_a_mean_are_those_of_its_distribution() -> None:
    values = np.random.default_rng(3).standard_normal(400)
    found = resampled_bounds(len(values), lambda drawn: float(values[drawn].mean()))
    error = values.std() / math.sqrt(len(values))
    assert found is not None
    assert found.low == pytest.approx(values.mean() - NORMAL_95 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + NORMAL_95 * error, abs=0.15 * error)


def test_a_resample_draws_as_many_samples_as_there_are_of_all_of_them() -> None:
    sizes, seen = set(), set()

    def note(drawn: np.ndarray) -> float:
        sizes.add(len(drawn))
        seen.update(drawn.tolist())
        return 0.0

    assert resampled_bounds(LEAST_SAMPLES, note) is not None
    assert sizes == {LEAST_SAMPLES}
    assert seen == set(range(LEAST_SAMPLES))


def test_resamples_without_the_statistic_do_not_count() -> None:
    values = np.arange(LEAST_SAMPLES, dtype=float)
    found = resampled_bounds(
        len(values), lambda drawn: float(values[drawn].mean()) if 0 in drawn else None
    )
    assert found is not None
    assert found.low < found.high
    assert resampled_bounds(LEAST_SAMPLES, lambda drawn: None) is None
    assert resampled_bounds(LEAST_SAMPLES - 1, lambda drawn: 0.0) is None


@given(st.floats(0, 1), st.integers(1, 10_000))
def test_a_share_is_a_normal_quantile_from_its_bounds(share: float, count: int) -> None:
    """Wilson's definition: each end is the share from which this one is 1.96 errors away."""
    found = share_bounds(share, count)
    for end in (found.low, found.high):
        away = NORMAL_95 * math.sqrt(max(0.0, end * (1 - end)) / count)
        assert abs(share - end) == pytest.approx(away, abs=1e-7)
    assert 0 <= found.low <= share + 1e-12
    assert share - 1e-12 <= found.high <= 1


@given(st.floats(0.01, 0.99), st.floats(1e-3, 0.5), st.integers(1, 1000))
def test_as_many_independent_trials_have_the_same_error(
    share: float, error: float, count: int
) -> None:
    worth = effective_count(share, error, count)
    assert 1 <= worth <= count
    if 1 < worth < count:
        assert math.sqrt(share * (1 - share) / worth) == pytest.approx(error)


@pytest.mark.parametrize(("share", "error"), [(0.0, 0.1), (1.0, 0.1), (0.5, 0.0)])
def test_where_nothing_spreads_every_trial_counts(share: float, error: float) -> None:
    assert effective_count(share, error, 7) == 7


def test_students_quantile_is_scipys() -> None:
    special = pytest.importorskip("scipy.special", reason="the extra 'fit' is not installed")
    for clusters in range(8, 200):
        exact = special.stdtrit(clusters - 1, 0.975)
        assert student_95(clusters) == pytest.approx(exact, rel=4e-3 if clusters < 20 else 5e-4)
    assert student_95(1) == student_95(2)


@examples(200)
@given(
    samples=st.integers(20, 1000), half=st.floats(1e-3, 0.3), times=st.floats(1.1, 99),
    at_end=st.booleans(),
)  # fmt: skip
def test_samples_wanted_are_the_fewest(
    samples: int, half: float, times: float, at_end: bool
) -> None:
    """The width shrinks with the root of the samples; for a share of 1, with the samples."""
    value = 1.0 if at_end else 0.6
    wanted = samples_for(samples, value, value - half, value - half / times)
    assert wanted is not None
    power = 1 if at_end else 0.5
    assert half * (samples / wanted) ** power <= half / times * (1 + 1e-9)
    if wanted > samples + 1:
        assert half * (samples / (wanted - 1)) ** power >= half / times * (1 - 1e-9)


def test_nothing_is_wanted_that_no_data_set_has() -> None:
    assert samples_for(20, 0.5, 0.4, 0.5) is None
    assert samples_for(20, 0.5, 0.25, 0.5 - 0.25 / 101) is None
    assert samples_for(20, 0.5, 0.25, 0.5 - 0.25 / 64) == 20 * 64**2
    assert samples_for(20, 0.5, 0.49, 0.4) == 21
