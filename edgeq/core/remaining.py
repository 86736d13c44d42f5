"""How long work will take that is still to come, by what was done of it so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

_SHORT = 90.0  # seconds; from then on in minutes


class Remaining:
    """The time left of work in parts, each of a known share.

    The first part done says nothing of the others: it also opens files and warms caches.

    >>> ticks = iter([0.0, 90.0, 90.0, 150.0, 150.0])
    >>> left = Remaining([1, 1, 1, 4], clock=lambda: next(ticks))
    >>> for part in (0, 1):
    ...     print(repr(left.begin(part)))
    ...     left.end(part)
    ''
    ''
    >>> left.begin(2)
    ', about 5 min left'
    """

    def __init__(
        self, shares: Sequence[float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shares, self._clock = shares, clock
        self._begun = self._seconds = self._done = 0.0
        self._is_warm = False

    def begin(self, part: int) -> str:
        """Words to put behind what is said of `part`; none before there is anything to go by."""
        self._begun = self._clock()
        if not self._done:
            return ""
        left = self._seconds / self._done * sum(self._shares[part:])
        shown = f"{left:.0f} s" if left < _SHORT else f"{left / 60:.0f} min"
        return f", about {shown} left"

    def end(self, part: int) -> None:
        """`part` is done. Not to be called for what was found done: it says nothing of the rest."""
        seconds = self._clock() - self._begun
        if self._is_warm:
            self._seconds += seconds
            self._done += self._shares[part]
        self._is_warm = True
