"""Other processes' work is told from one's own, and unknown counts are said to be unknown."""

from __future__ import annotations

import time
from types import SimpleNamespace

import psutil
import pytest

from edgeq.measure.bystanders import Bystanders


class Machine:
    """What psutil would say, with its clock in the test's hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.busy, self.own, self.hertz = 0.0, 50.0, 5.0, 2000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
        monkeypatch.setattr(psutil, "cpu_times", self._times)
        monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=self.hertz))
        monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(cpu_times=self._own))

    def _times(self) -> SimpleNamespace:
        counted = {"user": self.busy, "system": 0.0, "steal": 0.0, "guest": 7.0, "idle": self.clock}
        return SimpleNamespace(_asdict=lambda: counted)

    def _own(self) -> SimpleNamespace:
        children = {"children_user": 0.0, "children_system": 0.0}
        return SimpleNamespace(user=self.own, system=0.0, **children)

    def run(self, seconds: float, *, own: float, others: float) -> None:
        self.clock += seconds
        self.own += own
        self.busy += own + others


@pytest.mark.parametrize(
    ("seconds", "own", "others", "seen"),
    [
        (10.0, 10.0, 0.0, 0.0),
        (10.0, 10.0, 25.0, 2.5),
        (0.1, 0.1, 0.3, None),  # too short for the system's hundredths
    ],
)
def test_cpus_that_others_used_are_counted(
    monkeypatch: pytest.MonkeyPatch, seconds: float, own: float, others: float, seen: float | None
) -> None:
    machine = Machine(monkeypatch)
    bystanders = Bystanders()
    machine.run(seconds, own=own, others=others)
    machine.hertz = 1500.0
    found = bystanders.seen()
    assert found["others"] == (seen if seen is None else pytest.approx(seen))
    assert found["cpus"] == 4 and found["megahertz"] == (1500.0, 2000.0)


def test_a_system_that_counts_nothing_is_not_called_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    bystanders = Bystanders()
    machine.run(10.0, own=8.0, others=-8.0)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    assert bystanders.seen() == {"cpus": 4, "others": None, "megahertz": None}
