"""What a call costs, in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """CPU time, and the largest resident memory of one of the processes."""

    seconds: float
    peak_mib: float


def counted(call: Callable[P, T], *args: P.args, **named: P.kwargs) -> tuple[T, Cost]:
    """The call's result, which like its arguments can be pickled, and its cost."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(_counted, call, args, named).result()


def _counted(call: Callable[..., T], args: object, named: object) -> tuple[T, Cost]:
    assert isinstance(args, tuple) and isinstance(named, dict)
    found = call(*args, **named)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(each.ru_utime + each.ru_stime for each in used)
    return found, Cost(seconds, max(each.ru_maxrss for each in used) / 1024)
