"""The smallest sufficient limit, by bisection over limits in whole MiB, each actually tried.

Ends when the largest insufficient and the smallest sufficient limit are 1 MiB or 2 % apart. The
winner is tried once more, and if it then fails the search continues above it.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeq.core.units import MIB
from edgeq.places.limits.records import Trial

_STEP, _SHARE = MIB, 0.02


class Search:
    """Bisection between the largest insufficient limit and the smallest sufficient one.

    attempt: tries a limit in bytes. start: a limit that should suffice; enough: one above it beyond
    which more memory does not help. `tried` holds the last trial of each limit, `trials` all in
    order.
    """

    def __init__(self, attempt: Callable[[int], Trial], start: int, enough: int) -> None:
        self._attempt = attempt
        self._first = (whole(start), whole(enough))
        self.tried: dict[int, Trial] = {}
        self.trials: list[Trial] = []

    @property
    def high(self) -> int | None:
        """The smallest limit that is sufficient, as are all above it; None if there is none."""
        found = None
        for limit in sorted(self.tried, reverse=True):
            if self.tried[limit].outcome != "fits":
                break
            found = limit
        return found

    @property
    def low(self) -> int:
        """The largest insufficient limit; 0 is never tried."""
        return max((limit for limit, t in self.tried.items() if t.outcome != "fits"), default=0)

    @property
    def resolution(self) -> int:
        """The maximum final distance between `low` and `high`, in bytes."""
        return max(_STEP, int((self.high or 0) * _SHARE))

    def run(self) -> None:
        """Search until the winner was sufficient twice."""
        confirmed: set[int] = set()
        for limit in self._first:
            if self.high is None:
                self.at(limit)
        while (high := self.high) is not None:
            if high - self.low > self.resolution:
                self.at(whole((self.low + high) // 2))
            elif high in confirmed:
                return
            else:
                confirmed.add(high)
                self.at(high)

    def at(self, limit: int) -> Trial:
        """Try a limit, in bytes."""
        trial = self._attempt(limit)
        self.tried[limit] = trial
        self.trials.append(trial)
        return trial


def whole(size: int) -> int:
    """`size` in whole MiB, rounded up: the printed limits are the tried ones."""
    return -(-size // MIB) * MIB
