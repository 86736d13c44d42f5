"""Which devices the workers of a cluster offer, and how long a device has been without one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.pipeline.matrix.cluster import Cluster

_BETWEEN_SECONDS = 2.0


class WorkerRegistry:
    """The known workers of a cluster; `patience` is in seconds."""

    def __init__(self, cluster: Cluster, patience: float) -> None:
        self._cluster, self._patience = cluster, patience
        self._looked = float("-inf")
        self._begun = self._answered = time.monotonic()
        self._last: dict[frozenset[str], float] = {}
        self.lost = False

    def look(self, wanted: Iterable[set[str]]) -> None:
        """Poll the scheduler for the workers that offer each of the sets of devices."""
        now = time.monotonic()
        if now - self._looked < _BETWEEN_SECONDS:
            return
        self._looked = now
        offered = self._cluster.offered()
        if offered is None:
            self.lost = now - self._answered > self._patience
            return
        self._answered = now
        for devices in wanted:
            if any(devices <= own for own in offered):
                self._last[frozenset(devices)] = now

    def nobody_has(self, devices: Iterable[str]) -> bool:
        """Whether no worker has offered all of `devices` for longer than `patience`."""
        last = self._last.get(frozenset(devices), self._begun)
        return time.monotonic() - last > self._patience
