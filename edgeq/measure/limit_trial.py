"""An artifact under a limit: does it survive, and how much slower is it than without a limit?

Other work on the machine only ever makes a run slower. So a slow run, or one near the bound, is
repeated, each time right after a run without a limit, and the fastest median of either side counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from edgeq.core.terms import Progress
from edgeq.core.units import format_bytes
from edgeq.measure.order_statistics import quantile
from edgeq.measure.replies import MemoryReply, RunTimesReply, TextTimesReply, times_of
from edgeq.places.limits.records import Trial
from edgeq.places.limits.run import LimitedPlace, Limiter, OverLimit, Usage
from edgeq.places.process import Request, run_worker

_NEAR = 1.25  # a ratio this near to the bound is measured again
_ATTEMPTS = 3
# A pass may take this multiple of its time without a limit, and at least this many seconds.
_PATIENCE, _LEAST_SECONDS = 10.0, 30.0


@dataclass
class _Pace:
    """Medians of runs under a limit and of those without, in seconds."""

    limited: list[float] = field(default_factory=list)
    unlimited: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return min(self.limited) / min(self.unlimited)


class Trials:
    """Tries limits on the passes of `request`, whose `work` is replaced.

    slowdown: the largest acceptable ratio of the medians. Runs without a limit first: raises
    PassFailed if even that fails, and other errors of `run_worker`.
    """

    def __init__(
        self,
        request: Request,
        limiter: Limiter,
        *,
        slowdown: float,
        progress: Progress,
    ) -> None:
        self._requests = {
            "memory": request.model_copy(update={"work": "memory"}),
            "latency": request.model_copy(update={"work": "latency"}),
        }
        self._limiter, self._slowdown, self._progress = limiter, slowdown, progress
        self._took: dict[str, float] = {}
        self.memory = MemoryReply.model_validate(self._unlimited("memory"))
        self.latency = times_of(request, self._unlimited("latency"))
        """The replies of the first passes without a limit."""
        self._latest = _median(self.latency)

    def at(self, limit_bytes: int) -> Trial:
        """Whether it survives `limit_bytes`, and its speed then."""
        place = LimitedPlace(limit_bytes, self._limiter)
        try:
            said, usage = self._limited("memory", place)
        except OverLimit as error:
            return _ended(limit_bytes, error, {})
        memory = MemoryReply.model_validate(said)
        seen = {
            "high_water_bytes": memory.high_water_bytes,
            "anonymous_peak_bytes": memory.anonymous_peak_bytes,
        }
        pace = _Pace(unlimited=[self._latest])
        try:
            most = self._time(place, pace, usage)
        except OverLimit as error:
            return _ended(limit_bytes, error, seen)
        return Trial(
            limit_bytes=limit_bytes,
            outcome="fits" if pace.ratio <= self._slowdown else "too slow",
            group_peak_bytes=most.peak_bytes,
            warm_bytes=most.warm_bytes,
            p50_seconds=min(pace.limited),
            unlimited_p50_seconds=min(pace.unlimited),
            ratio=pace.ratio,
            attempts=len(pace.limited),
            **seen,
        )

    def _time(self, place: LimitedPlace, pace: _Pace, before: Usage) -> Usage:
        """Fill `pace`; returns the peak, including `before`."""
        peaks, warm = [before.peak_bytes], [before.warm_bytes]
        while True:
            said, usage = self._limited("latency", place)
            pace.limited.append(_median(times_of(self._requests["latency"], said)))
            peaks.append(usage.peak_bytes)
            warm.append(usage.warm_bytes)
            if len(pace.limited) >= self._attempts(pace.ratio):
                counted = [peak for peak in peaks if peak is not None]
                return Usage(max(counted, default=None), 0, max(warm))
            said = self._unlimited("latency")
            self._latest = _median(times_of(self._requests["latency"], said))
            pace.unlimited.append(self._latest)

    def _attempts(self, ratio: float) -> int:
        if self._slowdown / _NEAR < ratio < self._slowdown * _NEAR:
            return _ATTEMPTS
        # No limit makes a run faster: the run without a limit was disturbed.
        return 2 if ratio > self._slowdown or ratio < 1 / _NEAR else 1

    def _unlimited(self, work: Literal["memory", "latency"]) -> dict[str, Any]:
        self._progress(f"without a limit: {work}")
        start = time.monotonic()
        reply = run_worker(self._requests[work])
        self._took[work] = time.monotonic() - start
        return reply

    def _limited(
        self, work: Literal["memory", "latency"], place: LimitedPlace
    ) -> tuple[dict[str, Any], Usage]:
        self._progress(f"limit {format_bytes(place.limit_bytes)}: {work}")
        patience = max(_LEAST_SECONDS, self._took[work] * self._slowdown * _PATIENCE)
        return place.watch(self._requests[work], patience)


def _median(reply: RunTimesReply | TextTimesReply) -> float:
    """The median in seconds of a latency pass: per run, or per token of a language model."""
    return quantile(reply.steps, 0.5).seconds


def _ended(limit_bytes: int, error: OverLimit, seen: dict[str, Any]) -> Trial:
    return Trial(
        limit_bytes=limit_bytes,
        outcome="too slow" if error.stopped else "killed",
        group_peak_bytes=error.usage.peak_bytes,
        warm_bytes=error.usage.warm_bytes,
        reason=str(error),
        **seen,
    )
