"""Nearest neighbours of texts before and after quantization."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.measure.neighbours import neighbours


def vectors(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 5)).astype(np.float32)


@given(st.integers(0, 1000), st.integers(3, 30), st.floats(0, 2))
def test_changes_are_those_of_the_definition(seed: int, count: int, noise: float) -> None:
    texts = [f"text {i}" for i in range(count)]
    a = vectors(seed, count)
    b = (a + noise * vectors(seed + 1, count)).astype(np.float32)
    found = neighbours(texts, a, b)
    assert found is not None
    expected = {}
    cosines = []
    for part in (a.astype(float), b.astype(float)):
        unit = part / np.linalg.norm(part, axis=1, keepdims=True)
        likeness = unit @ unit.T
        np.fill_diagonal(likeness, -2)
        cosines.append(likeness)
    for i in range(count):
        was, now = (int(likeness[i].argmax()) for likeness in cosines)
        if was != now:
            expected[texts[i]] = (texts[was], texts[now], cosines[0][i, was] - cosines[0][i, now])
    assert (found.texts, found.changed) == (count, len(expected))
    assert len(found.changes) == min(8, len(expected))
    for change in found.changes:
        was_text, now_text, lost = expected[change.text]
        assert (change.was.text, change.now.text) == (was_text, now_text)
        assert abs(change.lost - lost) < 1e-6
    least = min((change.lost for change in found.changes), default=0.0)
    kept = {change.text for change in found.changes}
    assert all(lost <= least + 1e-6 for text, (*_, lost) in expected.items() if text not in kept)


def test_the_same_vectors_change_nothing() -> None:
    found = neighbours(["a", "b", "c", "d"], vectors(0, 4), vectors(0, 4))
    assert found is not None
    assert found.changed == 0


def test_a_text_is_not_its_own_neighbour_however_often_it_is_there() -> None:
    texts = ["a", "b", "a", "c", "a"]
    a = vectors(0, 5)
    a[2] = a[4] = a[0]
    found = neighbours(texts, a, -a[::-1])
    assert found is not None
    assert found.texts == 3
    assert all(change.text not in (change.was.text, change.now.text) for change in found.changes)


def test_two_texts_have_nothing_to_choose_from() -> None:
    assert neighbours(["a", "b", "a"], vectors(0, 3), vectors(1, 3)) is None


def test_a_vector_of_nothing_is_no_trouble() -> None:
    a = vectors(0, 4)
    a[1] = 0
    found = neighbours(["a", "b", "c", "d"], a, a)
    assert found is not None
    assert found.changed == 0
