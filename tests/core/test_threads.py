"""Work in parts, each on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from edgeq.core.threads import (
    default_threads,
    map_in_threads,
    run_ahead,
    samples_at_once,
    threads_of_each,
)


def _blas_threads() -> list[int]:
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def test_results_are_in_order_and_products_stay_on_their_thread() -> None:
    before = _blas_threads()
    matrix = np.ones((2, 2))

    def part(number: int) -> tuple[float, list[int]]:
        return float((matrix * number @ matrix)[0, 0]), _blas_threads()

    found = map_in_threads(part, range(8), threads=3)
    assert [value for value, _ in found] == [2.0 * number for number in range(8)]
    assert all(set(threads) == {1} for _, threads in found)
    assert _blas_threads() == before


def test_parts_are_run_ahead_in_order_and_no_more_are_taken_than_are_at_work() -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    for done, found in enumerate(run_ahead(lambda number: number**2, parts())):
        assert found == done**2
        assert len(taken) <= done + samples_at_once()


def test_what_a_part_raises_is_raised_where_its_result_would_be() -> None:
    results = run_ahead(lambda number: 6 // number, [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_samples_share_all_cores() -> None:
    assert samples_at_once() * threads_of_each() <= default_threads()
    assert samples_at_once() >= 1 <= threads_of_each()
