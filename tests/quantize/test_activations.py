"""Input codes: zero stays exact, smoothing is exact in float, and it is chosen where it pays."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.quantize.activations import (
    InputCodes,
    choose_dynamic,
    choose_static,
    scale_and_zero_point,
    static_range,
)
from edgeq.quantize.statistics import InputStatistics


def statistics_of(rows: np.ndarray, samples: int = 8) -> InputStatistics:
    pieces = tuple(np.array_split(rows.astype(np.float32), samples))
    power = np.square(rows, dtype=np.float64).mean(0)
    return InputStatistics(pieces, rows.min(0), rows.max(0), power, len(rows), None)


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((24, 64)).astype(np.float32)


def rows_with_outliers(factor: float) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((512, 64)).astype(np.float32)
    rows[:, 5] *= factor
    return rows


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_zero_is_exact_in_every_range(a: float, b: float) -> None:
    scale, zero = scale_and_zero_point(min(a, b), max(a, b))
    code = np.clip(np.rint(np.float32(0) / scale) + np.float32(zero), 0, 255)
    assert (code - np.float32(zero)) * scale == 0


Choose = Callable[[InputStatistics, np.ndarray], InputCodes]
BOTH = pytest.mark.parametrize(
    "choose",
    [choose_dynamic, functools.partial(choose_static, ranges="minmax")],
    ids=["dynamic", "static"],
)


@BOTH
def test_an_outlier_channel_is_remedied_and_plain_rows_are_left_alone(
    choose: Choose, weight: np.ndarray
) -> None:
    codes = choose(statistics_of(rows_with_outliers(60)), weight)
    assert 5 in codes.outliers or (codes.smoothing is not None and codes.smoothing.argmax() == 5)
    assert codes.error < 0.35 * codes.plain_error
    plain = choose(statistics_of(rows_with_outliers(1)), weight)
    assert (plain.smoothing, plain.outliers) == (None, ())
    assert plain.error == plain.plain_error


@BOTH
def test_one_row_with_a_huge_answer_does_not_decide_for_the_others(
    choose: Choose, weight: np.ndarray
) -> None:
    """The token that separates sentences has such rows in real models."""
    rows = rows_with_outliers(1)
    rows[7, 5] = 400
    codes = choose(statistics_of(rows), weight)
    assert codes.error < 0.01 * codes.plain_error


def test_the_error_range_is_never_worse_than_minmax(weight: np.ndarray) -> None:
    statistics = statistics_of(rows_with_outliers(30))
    minmax = choose_static(statistics, weight, "minmax")
    assert choose_static(statistics, weight, "error").error <= minmax.error


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "entropy", "error"])
def test_every_kind_of_range_holds_zero_and_lies_within_what_was_seen(ranges: str) -> None:
    rows = np.random.default_rng(2).standard_normal((512, 64)).astype(np.float32) ** 3
    statistics = statistics_of(rows)
    low, high = static_range(statistics, ranges)
    assert statistics.low.min() <= low <= 0 <= high <= statistics.high.max()
    if ranges == "entropy":
        assert high < statistics.high.max()  # a long tail is worth clipping


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_constant_tensors_have_a_range(value: float) -> None:
    statistics = statistics_of(np.full((16, 4), value, np.float32))
    for ranges in ("minmax", "percentile", "entropy", "error"):
        low, high = static_range(statistics, ranges)
        scale, _ = scale_and_zero_point(low, high)
        assert np.isfinite(scale)
        assert scale > 0
