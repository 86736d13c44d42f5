"""Time single runs of a model until there are enough to decide, and summarize them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgeq.core.terms import Effort
from edgeq.measure.bystanders import Bystanders
from edgeq.measure.order_statistics import quantile
from edgeq.measure.records import Conditions, Latency
from edgeq.measure.sequential import Limit, settle, tails

WARMUP_RUNS = 5
QUICK_RUNS, QUICK_SECONDS = 128, 10.0
FULL_RUNS, FULL_SECONDS = 1024, 60.0
P99_SAMPLES = 1000
_KEPT_SAMPLES = 10_000  # a full pass of a 50 µs model would otherwise write a million numbers


@dataclass(frozen=True)
class Timing:
    """Seconds of the timed runs, in order, and the number of runs after warm-up.

    looks: how many samples there were each time the limits were tested. disturbed: from
    `Bystanders`.
    """

    seconds: list[float]
    runs: int
    looks: tuple[int, ...] = ()
    disturbed: dict[str, object] = field(default_factory=dict)


def time_runs(
    run: Callable[[], object],
    effort: Effort,
    limits: Sequence[Limit] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Warm up, then time single runs: quick ≤ 128 and ≤ 10 s, full ≥ 1024 and ≥ 60 s.

    More if `limits` need more, see `edgeq.measure.sequential`. If a full pass would time more than
    10,000 runs, only every n-th is timed, evenly. `clock` gives seconds.
    """
    warmup = []
    for _ in range(WARMUP_RUNS):
        start = clock()
        run()
        warmup.append(clock() - start)
    typical = sorted(warmup)[WARMUP_RUNS // 2]
    stride = 1
    if effort == "full" and typical > 0:
        stride = max(1, math.ceil(FULL_SECONDS / typical / _KEPT_SAMPLES))
    seconds: list[float] = []

    def take() -> None:
        for _ in range(stride - 1):
            run()
        start = clock()
        run()
        seconds.append(clock() - start)

    bystanders = Bystanders()
    begin = clock()
    while not _is_enough(len(seconds), clock() - begin, effort):
        take()
    looks = settle(seconds, limits, take, effort, clock)
    return Timing(seconds, len(seconds) * stride, looks, bystanders.seen())


def _is_enough(samples: int, elapsed: float, effort: Effort) -> bool:
    if effort == "quick":
        return samples >= QUICK_RUNS or (samples > 0 and elapsed >= QUICK_SECONDS)
    return samples >= FULL_RUNS and elapsed >= FULL_SECONDS


def summarise(
    timing: Timing,
    load_seconds: float,
    conditions: Conditions,
    compiled_load_seconds: float | None = None,
) -> Latency:
    """Summarize the times of `timing`; the loading times are as in `Latency`."""
    seconds, looks = timing.seconds, timing.looks
    return Latency(
        load_seconds=load_seconds,
        compiled_load_seconds=compiled_load_seconds,
        warmup_runs=WARMUP_RUNS,
        runs=timing.runs,
        looks=looks,
        samples_seconds=tuple(seconds),
        p50=quantile(seconds, 0.5, tails(0.5, looks)),
        p90=quantile(seconds, 0.9, tails(0.9, looks)),
        p99=quantile(seconds, 0.99) if len(seconds) >= P99_SAMPLES else None,
        conditions=conditions,
    )
