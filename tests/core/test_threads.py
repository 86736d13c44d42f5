"""Work in parts, each on one thread."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from edgeq.core.threads import map_in_threads


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
