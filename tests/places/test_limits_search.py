"""The search for the smallest limit, over needs that are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.units import MIB
from edgeq.places.limits.records import Trial
from edgeq.places.limits.search import Search, whole

SIZES = st.integers(1, 2**36)


def attempt_at(need: int) -> Callable[[int], Trial]:
    """Tries of something that needs `need` bytes, no more and no less."""

    def attempt(limit: int) -> Trial:
        outcome = "fits" if limit >= need else "killed"
        return Trial(limit_bytes=limit, outcome=outcome, group_peak_bytes=None)

    return attempt


@given(need=SIZES, start=SIZES, more=SIZES)
def test_the_smallest_limit_is_found_to_the_resolution(need: int, start: int, more: int) -> None:
    enough = max(need, start + more)
    search = Search(attempt_at(need), start, enough)
    search.run()
    high = search.high
    assert high is not None
    assert need <= high
    assert high - search.low <= search.resolution
    assert search.resolution <= max(MIB, 0.02 * high)
    # What is said to be enough was enough twice, and what is below it was really tried.
    assert [trial.limit_bytes for trial in search.trials].count(high) == 2
    assert search.low == 0 or search.tried[search.low].outcome == "killed"
    assert len(search.trials) < 45


@given(need=SIZES, start=SIZES)
def test_nothing_is_found_where_nothing_is_enough(need: int, start: int) -> None:
    enough = start + MIB
    search = Search(attempt_at(whole(enough) + need), start, enough)
    search.run()
    assert search.high is None
    assert len(search.trials) == 2


@pytest.mark.parametrize("lucky", range(1, 40))
def test_a_winner_that_fails_the_second_time_is_not_believed(lucky: int) -> None:
    seen: set[int] = set()

    def attempt(limit: int) -> Trial:
        lucky_once = limit == lucky * MIB and limit not in seen
        seen.add(limit)
        outcome = "fits" if limit >= 40 * MIB or lucky_once else "too slow"
        return Trial(limit_bytes=limit, outcome=outcome, group_peak_bytes=None)

    search = Search(attempt, 64 * MIB, 128 * MIB)
    search.run()
    assert search.high == 40 * MIB


@given(st.lists(st.sampled_from(["fits", "too slow", "killed"]), min_size=100, max_size=100))
def test_noise_never_keeps_it_from_ending(outcomes: list[str]) -> None:
    left = iter(outcomes)

    def attempt(limit: int) -> Trial:
        outcome = next(left)  # runs out, and fails the test, if it takes more than 100
        return Trial.model_validate(
            {"limit_bytes": limit, "outcome": outcome, "group_peak_bytes": None}
        )

    search = Search(attempt, 100 * MIB, 200 * MIB)
    search.run()
    if search.high is not None:
        assert all(
            trial.outcome == "fits" for limit, trial in search.tried.items() if limit >= search.high
        )
