"""Windows of a text: whole, in order, the same everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.recipe.windows import split

IDS = st.lists(st.integers(2, 999), min_size=1, max_size=200)


@given(IDS, st.integers(1, 40))
def test_windows_are_the_text_cut_up(ids: list[int], size: int) -> None:
    if len(ids) < size:
        with pytest.raises(InvalidInput, match=f"less than one window of {size}"):
            split(ids, size, None, "a.txt")
        return
    windows = split(ids, size, None, "a.txt")
    whole = [token for window in windows for token in window]
    assert whole == ids[: len(whole)]
    assert {len(window) for window in windows} == {size}
    assert len(ids) - len(whole) < size


@given(IDS, st.integers(1, 20), st.integers(1, 10))
def test_some_windows_are_some_of_all(ids: list[int], size: int, count: int) -> None:
    available = len(ids) // size
    if not 1 <= count <= available:
        with pytest.raises(InvalidInput):
            split(ids, size, None, "a.txt", count=count if count > available else available + 1)
        return
    chosen = split(ids, size, None, "a.txt", count)
    assert len(chosen) == count
    places = iter(split(ids, size, None, "a.txt"))
    assert all(any(window == other for other in places) for window in chosen)  # in their order


def test_a_first_token_stands_in_the_place_of_one() -> None:
    assert split([5, 6, 7, 8], 2, 1, "a.txt") == [[1, 6], [1, 8]]
