"""Measure this machine's memory bandwidth if its profile does not state it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from edgeq.core.store import Store
from edgeq.core.threads import default_threads
from edgeq.devices.detect import detect

_FILE = "bytes-per-second.txt"
_ARRAY_BYTES = 32 << 20  # far beyond a cache's share
_ROUNDS = 3
_OF_PEAK = 0.75  # a copy reaches about this fraction of the figure that makers state


def bandwidth_here(store: Store) -> float:
    """`memory_bandwidth`, measured once per store, so that choices based on it are reproducible."""

    def make(destination: Path) -> None:
        (destination / _FILE).write_text(str(memory_bandwidth()), encoding="utf-8")

    place = store.stage("bandwidth", {"chip": detect().chip}, make)
    return float((place / _FILE).read_text(encoding="utf-8"))


def memory_bandwidth() -> float:
    """Approximately the maker's figure, in bytes/s, from copies of large arrays; under a second.

    Copies on every physical core at once; the best of several rounds, since other processes may use
    the memory meanwhile.
    """
    threads = min(4, default_threads())
    arrays = [(np.ones(_ARRAY_BYTES // 8), np.empty(_ARRAY_BYTES // 8)) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), arrays))
            taken = time.perf_counter() - start
            best = max(best, 2 * _ARRAY_BYTES * threads / taken)
    return best / _OF_PEAK
