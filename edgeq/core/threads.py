"""How many threads a run has, and which work is shared among them."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

# More samples at once would take more memory; further cores share the products of each.
_AT_ONCE = 4

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def default_threads() -> int:
    """One thread per physical core, but no more than the CPUs this process may use."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(physical, len(os.sched_getaffinity(0))))
    return physical


def map_in_threads(
    function: Callable[[_Part], _Result], parts: Iterable[_Part], threads: int = 0
) -> list[_Result]:
    """The results for all parts, in order; numpy's products run on the thread that asks for them.

    threads: at once; 0 means `default_threads()`. Left to itself, every small product is shared
    among all cores, and waiting for each other takes longer than the product: five times the CPU
    time on a busy machine.
    """
    with (
        _libraries().limit(limits=1, user_api="blas"),
        ThreadPoolExecutor(threads or default_threads()) as pool,
    ):
        return list(pool.map(function, parts))


def samples_at_once() -> int:
    """How many samples `run_ahead` has at work."""
    return min(default_threads(), _AT_ONCE)


def threads_of_each() -> int:
    """Threads for the products of one of the samples at work.

    A product of a sentence's few rows takes less time than threads take to wait for each other.
    """
    return default_threads() // samples_at_once()


def run_ahead(function: Callable[[_Part], _Result], parts: Iterable[_Part]) -> Iterator[_Result]:
    """The results for all parts, in order, a few computed at once.

    For functions that release Python's lock, as onnxruntime does. Parts are taken on the caller's
    thread, no more of them than are at work.
    """
    with ThreadPoolExecutor(samples_at_once()) as pool:
        running: deque[Future[_Result]] = deque()
        for part in parts:
            running.append(pool.submit(function, part))
            if len(running) == samples_at_once():
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@functools.cache
def _libraries() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController  # emulated devices are without it

    return ThreadpoolController()
