"""Disturbances while runs are timed: other processes, and the CPU's frequency."""

from __future__ import annotations

import time

import psutil

_LEAST_SECONDS = 0.5  # the system counts in hundredths of a second


class Bystanders:
    """Watches, from its creation, in the process that times runs."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._busy, self._own = _busy_seconds(), _own_seconds()
        self._megahertz = megahertz()

    def seen(self) -> dict[str, object]:
        """Number of CPUs, how many of them others used, and frequencies, as `Conditions`."""
        return {
            "cpus": psutil.cpu_count(),
            "others": self._others(),
            "megahertz": self._frequencies(),
        }

    def _others(self) -> float | None:
        elapsed = time.monotonic() - self._begin
        busy, own = _busy_seconds() - self._busy, _own_seconds() - self._own
        # Some sandboxes count nothing, not even this process.
        if elapsed < _LEAST_SECONDS or busy < own / 2:
            return None
        return max(0.0, busy - own) / elapsed

    def _frequencies(self) -> tuple[float, float] | None:
        found = [each for each in (self._megahertz, megahertz()) if each]
        return (min(found), max(found)) if len(found) == 2 else None


def _busy_seconds() -> float:
    """The busy time of all CPUs together, including time taken by a hypervisor."""
    times = psutil.cpu_times()._asdict()
    idle = ("idle", "iowait", "guest", "guest_nice")  # guests are already in user time
    return float(sum(seconds for kind, seconds in times.items() if kind not in idle))


def _own_seconds() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def megahertz() -> float | None:
    """The CPU's frequency now; None if the system does not report it."""
    try:
        found = psutil.cpu_freq()
    except (AttributeError, NotImplementedError, OSError, RuntimeError):
        return None
    return float(found.current) if found else None


def celsius() -> float | None:
    """The hottest sensor's temperature now; None if the system reports none."""
    try:
        sensors = psutil.sensors_temperatures()
    except (AttributeError, NotImplementedError, OSError, RuntimeError):
        return None
    found = [each.current for group in sensors.values() for each in group if each.current]
    return float(max(found)) if found else None
