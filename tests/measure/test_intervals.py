"""Intervals of quality figures: what they cover, and what they ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.core.sampling import LEAST_SAMPLES
from edgeq.measure.intervals import (
    Bounds,
    effective_count,
    ratio_bounds,
    resampled_bounds,
    samples_for,
    share_bounds,
    student_95,
)
from edgeq.measure.quality import OutputComparison
from edgeq.pipeline.check.verdict import Line
from tests.support.properties import examples
from tests.support.verdicts import OUTPUT, line, measurement, quality, verdict


def test_the_interval_of_a_skewed_mean_covers_it() -> None:
    """Distances as they are: most small, a few large. 5 % are promised to miss."""
    generator = np.random.default_rng(0)
    truth = float(np.exp(0.5**2 / 2))
    trials = 150
    missed = 0
    for _ in range(trials):
        values = np.exp(0.5 * generator.standard_normal(2 * LEAST_SAMPLES))
        found = ratio_bounds(values, np.ones(len(values)))
        assert found is not None
        missed += not found.low <= truth <= found.high
    assert missed <= 0.05 * trials + 3 * np.sqrt(0.05 * 0.95 * trials)


@examples(30)
@given(st.lists(st.floats(0.5, 1), min_size=20, max_size=60), st.floats(1e-3, 1e3))
def test_the_interval_holds_the_value_and_scales_with_it(values: list[float], by: float) -> None:
    own = np.array(values)
    found, scaled = (ratio_bounds(each, np.ones(len(own))) for each in (own, by * own))
    assert found is not None
    assert scaled is not None
    assert found.low <= own.mean() + 1e-12
    assert found.high >= own.mean() - 1e-12
    assert scaled.low == pytest.approx(by * found.low, rel=1e-6)


def test_repeats_tell_nothing_new() -> None:
    generator = np.random.default_rng(1)
    references = generator.standard_normal((30, 1, 8)).astype(np.float32)
    outputs = references + 0.3 * generator.standard_normal(references.shape).astype(np.float32)
    once, twice = (OutputComparison("y", logits=True) for _ in range(2))
    for output, reference in zip(outputs, references, strict=True):
        once.add(output, reference)
        for _ in range(2):
            twice.add(output, reference)
    found, repeated = once.result(), twice.result()
    assert found is not None
    assert repeated is not None
    assert (found.distinct, repeated.distinct, repeated.samples) == (30, 30, 60)
    assert found.cosine_mean_bounds is not None
    assert repeated.cosine_mean_bounds is not None
    assert repeated.cosine_mean_bounds.low == pytest.approx(found.cosine_mean_bounds.low)


def test_a_share_without_a_miss_is_no_certainty() -> None:
    assert share_bounds(1.0, 20).low == pytest.approx(0.8389, abs=1e-4)  # Wilson 1927
    assert share_bounds(1.0, 381).low >= 0.99 > share_bounds(1.0, 380).low
    assert effective_count(0.9, 0.06, 100) == pytest.approx(25)


@pytest.mark.parametrize(("clusters", "quantile"), [(8, 2.3646), (20, 2.0930), (40, 2.0227)])
def test_few_windows_have_students_interval(clusters: int, quantile: float) -> None:
    assert student_95(clusters) == pytest.approx(quantile, rel=4e-3)


def test_one_sample_has_no_interval() -> None:
    assert ratio_bounds(np.ones(1), np.ones(1)) is None
    assert resampled_bounds(1, lambda drawn: 1.0) is None


def test_what_was_seen_once_may_be_more_frequent() -> None:
    """One bad sample in 400: by Poisson's law up to 5.6 are to be expected."""
    values = np.ones(400)
    values[7] = 0.5
    found = ratio_bounds(values, np.ones(400))
    assert found is not None
    assert found.low < 1 - 0.5 * 5.57 / 400 < found.high


@settings(deadline=None)
@given(
    value=st.floats(0.5, 0.99), half=st.floats(0.001, 0.3), room=st.floats(0.001, 0.3),
    samples=st.integers(20, 500),
)  # fmt: skip
def test_what_is_wanted_would_decide(value: float, half: float, room: float, samples: int) -> None:
    wanted = samples_for(samples, value, value - half, value - room)
    if wanted is not None and wanted > samples + 1:
        assert half * (samples / wanted) ** 0.5 <= room * (1 + 1e-9)


@pytest.mark.parametrize(
    ("samples", "limit", "status", "said"),
    [
        (100, 0.98, "pass", ""),
        (100, 0.984, "inconclusive", "about 400 samples (now 100)"),
        (100, 0.985, "inconclusive", "the value equals the limit"),
        (LEAST_SAMPLES, 0.98, "pass", ""),
        (19, 0.5, "inconclusive", "about 20 samples (now 19)"),
        (19, 0.999, "inconclusive", "about 20 samples (now 19)"),
        (100, 0.99, "fail", ""),
    ],
)
def test_a_quality_budget_needs_its_samples(
    samples: int, limit: float, status: str, said: str
) -> None:
    output = OUTPUT.model_copy(update={"samples": samples, "distinct": samples})
    found = verdict({"quality": {"cosine": limit}}, measured=measurement(quality=quality(y=output)))
    cosine = line(found, "quality.cosine")
    assert cosine.status == status
    assert said in cosine.remedy
    assert (cosine.reason == "") == (samples >= LEAST_SAMPLES)
    assert (found.exit_status == 4) == (status == "inconclusive")


@pytest.mark.parametrize(
    ("samples", "limit", "wanted"),
    [
        (100, 0.984, 400),  # the lower end is 2 away, the limit 1
        (100, 0.9855, 2500),  # the upper end is 2.5 away, the limit 0.5
        (LEAST_SAMPLES, 0.985, None),
        (LEAST_SAMPLES, 0.984, 4 * LEAST_SAMPLES),
    ],
)
def test_the_end_beyond_the_limit_says_how_many_samples_are_wanted(
    samples: int, limit: float, wanted: int | None
) -> None:
    bounds = Bounds(low=0.983, high=0.9875)
    known = {"samples": samples, "distinct": samples, "cosine_mean_bounds": bounds}
    cosine = cosine_line(limit, **known)
    assert (cosine.status, cosine.samples_wanted) == ("inconclusive", wanted)


def test_samples_too_few_for_an_interval_want_the_fewest_that_have_one() -> None:
    known = {"samples": 3, "distinct": 3, "cosine_mean_bounds": None}
    cosine = cosine_line(0.5, **known)
    assert (cosine.status, cosine.samples_wanted) == ("inconclusive", LEAST_SAMPLES)
    assert cosine.reason == "3 different samples are too few for an interval"
    one = cosine_line(0.5, **{**known, "samples": 1, "distinct": 1})
    assert one.reason == "1 sample is too few for an interval"


def cosine_line(limit: float, **changes: Any) -> Line:
    output = OUTPUT.model_copy(update=changes)
    found = verdict({"quality": {"cosine": limit}}, measured=measurement(quality=quality(y=output)))
    return line(found, "quality.cosine")
