"""Distances between outputs: against scipy, against the definition, and where there is none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.measure.arrays import Array, read_arrays, write_arrays
from edgeq.measure.quality import (
    NotComparable,
    OutputComparison,
    compare,
    cosine,
    pair_spearman,
    ranks,
    spearman,
)
from edgeq.measure.records import OutputQuality

small = st.lists(st.integers(-3, 3), min_size=2, max_size=40)


def compared(output: Array, reference: Array, *, logits: bool = True) -> OutputQuality:
    comparison = OutputComparison("y", logits=logits)
    for a, b in zip(output, reference, strict=True):
        comparison.add(a, b)
    found = comparison.result()
    assert found is not None
    return found


@settings(deadline=None)
@given(data=st.data(), a=small)
def test_spearman_with_ties_equals_scipy(data: st.DataObject, a: list[int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    b = data.draw(st.lists(st.integers(-3, 3), min_size=len(a), max_size=len(a)))
    np.testing.assert_array_equal(ranks(a), stats.rankdata(a))
    found = spearman(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(100 * stats.spearmanr(a, b).statistic, abs=1e-9)


@settings(deadline=None)
@given(a=small)
def test_spearman_sees_order_only(a: list[int]) -> None:
    if len(set(a)) > 1:
        assert spearman(a, np.exp(a)) == pytest.approx(100)
        assert spearman(a, [-value for value in a]) == pytest.approx(-100)


def test_pairs_are_first_half_against_second() -> None:
    vectors = np.array([[1.0, 0], [1, 0], [1, 0], [1, 0], [1, 1], [0, 1]])
    assert pair_spearman(vectors, [5, 3, 1]) == pytest.approx(100)
    assert pair_spearman(vectors, [1, 3, 5]) == pytest.approx(-100)
    assert pair_spearman(vectors, [2, 2, 2]) is None


@settings(deadline=None)
@given(
    a=st.lists(st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=3),
    scale=st.sampled_from([1e-300, 1e-9, 1.0, 1e9, 1e300]),
)
def test_cosine_does_not_depend_on_length(a: list[float], scale: float) -> None:
    vector = np.array(a)
    other = np.arange(len(a), dtype=float) + 1
    assert cosine(vector * scale, other) == pytest.approx(cosine(vector, other), abs=1e-12)
    assert cosine(vector * scale, vector) == pytest.approx(1)


def test_cosine_of_nothing() -> None:
    zero, one = np.zeros(3), np.ones(3)
    assert (cosine(zero, zero), cosine(zero, one)) == (1, 0)


def test_equal_outputs_have_no_distance() -> None:
    outputs = np.random.default_rng(0).standard_normal((7, 1, 5)).astype(np.float32)
    found = compared(outputs, outputs)
    assert found.samples == 7
    assert (found.relative_rms_error, found.max_absolute_error) == (0, 0)
    assert found.cosine_min == pytest.approx(1)
    assert found.top1_agreement == 1


def test_distances_follow_their_definition() -> None:
    rng = np.random.default_rng(1)
    b = rng.standard_normal((50, 2, 8)).astype(np.float32)
    a = b + 0.3 * rng.standard_normal(b.shape).astype(np.float32)
    found = compared(a, b)
    x, y = a.astype(float).reshape(50, -1), b.astype(float).reshape(50, -1)
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert found.cosine_mean == pytest.approx(cosines.mean(), rel=1e-12)
    assert found.cosine_min == pytest.approx(cosines.min(), rel=1e-12)
    expected = np.linalg.norm(x - y) / np.linalg.norm(y)
    assert found.relative_rms_error == pytest.approx(expected, rel=1e-12)
    assert found.max_absolute_error == np.abs(x - y).max()
    assert found.top1_agreement == (a.argmax(2) == b.argmax(2)).mean()


def test_low_cosine_is_the_worst_hundredth() -> None:
    b = np.tile([1.0, 0.0], (200, 1))
    angles = np.linspace(0, 1, 200)
    a = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert compared(a, b).cosine_low == pytest.approx(math.cos(angles[-2]))


@pytest.mark.parametrize("shape", [(4,), (1, 1), (1, 2, 3)])
def test_only_rows_of_floats_are_logits(shape: tuple[int, ...]) -> None:
    outputs = np.ones((2, *shape), np.float32)
    assert compared(outputs, outputs).top1_agreement is None
    rows = np.ones((2, 1, 4), np.int64)
    assert compared(rows, rows).top1_agreement is None
    assert compared(rows.astype(np.float32), rows * 1.0, logits=False).top1_agreement is None


def test_error_against_zero_is_not_a_number_but_none() -> None:
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert compared(one, zero).relative_rms_error is None
    assert compared(zero, zero).relative_rms_error == 0


def test_what_cannot_be_compared_is_named() -> None:
    comparison = OutputComparison("scores", logits=False)
    with pytest.raises(NotComparable, match=r"'scores' of sample 0 is \(2,\), full precision"):
        comparison.add(np.zeros(2), np.zeros(3))
    with pytest.raises(NotComparable, match="sample 1 holds NaN or infinity"):
        comparison.add(np.array([np.nan, 1]), np.array([0.0, 1]))


def test_answers_whose_number_varies_are_compared_where_it_is_the_same() -> None:
    a, b = np.ones((2, 6)), np.ones((3, 6))
    found = compare(["x"], [a, a, b], [a, b, b], logits=False, may_vary=True)
    assert found["x"].samples == 2
    assert compare(["x"], [a], [b], logits=False, may_vary=True) == {}


def test_the_same_infinity_on_both_sides_is_equal() -> None:
    mask = np.array([[[-np.inf, 2.0, np.nan]]])
    found = compared(mask, mask)
    assert (found.max_absolute_error, found.cosine_min) == (0, 1)


def test_outputs_of_a_sample_come_in_turn() -> None:
    a, b = np.ones(2), np.array([1.0, 0.0])
    found = compare(["x", "y"], [a, a, a, a], [a, b, a, b], logits=False)
    assert found["x"].relative_rms_error == 0
    assert found["y"].relative_rms_error == 1
    assert compare(["x"], [np.ones(0)], [np.ones(0)], logits=False) == {}


def test_arrays_survive_their_file(tmp_path: Path) -> None:
    written: list[Array] = [np.arange(6).reshape(2, 3), np.array(2.5), np.zeros((0, 4), np.int8)]
    assert write_arrays(tmp_path / "a", written) == 3
    read = list(read_arrays(tmp_path / "a"))
    for one, other in zip(written, read, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
