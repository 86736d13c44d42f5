"""What a model still writes after minutes: the slowest part of a run without a pause."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.measure.records import Moment
from edgeq.measure.sustained import describe, summarise_moments, sustain
from tests.support.properties import examples
from tests.support.table_model import VOCABULARY, Table
from tests.support.verdicts import language_model, line, spoken, verdict

PROMPT = np.arange(10, dtype=np.int32) % VOCABULARY


class Clock:
    """Counts up by what a token takes at that time."""

    def __init__(self, model: Table, seconds: Callable[[float], float]) -> None:
        self._model, self._seconds = model, seconds
        self._at, self._runs = 0.0, 0

    def __call__(self) -> float:
        while self._runs < self._model.runs:
            self._at += self._seconds(self._at)
            self._runs += 1
        return self._at


def moments(seconds: Callable[[float], float], whole: float = 60.0) -> list[Moment]:
    model = Table()
    return sustain(model, PROMPT, 4, whole, Clock(model, seconds))


@examples(60)
@given(at=st.floats(5, 47), before=st.floats(0.01, 0.2), factor=st.floats(1.2, 4))
def test_the_slowest_part_is_what_is_left_of_the_speed(
    at: float, before: float, factor: float
) -> None:
    found = summarise_moments(moments(lambda now: before if now < at else before * factor))
    assert found is not None
    slow = 1 / (before * factor)
    assert found.slowest.tokens_per_second == pytest.approx(slow, rel=1e-6)
    assert found.slowest_part > at / 60 * 5 - 1
    if at > 12:
        assert found.first.tokens_per_second == pytest.approx(1 / before, rel=1e-6)


@examples(60)
@given(st.floats(0.003, 30))
def test_every_token_is_counted_once(seconds: float) -> None:
    model = Table()
    found = sustain(model, PROMPT, 4, 60.0, Clock(model, lambda now: seconds))
    texts = model.runs // 5
    assert sum(each.tokens for each in found) == 4 * texts
    assert sum(each.seconds for each in found) == pytest.approx(4 * texts * seconds)
    ends = [each.end_seconds for each in found]
    assert ends == sorted(set(ends)) and ends[-1] <= 60.0


def test_a_budget_just_below_passes_and_just_above_fails() -> None:
    run = summarise_moments(moments(lambda now: 0.1 if now < 24 else 0.25))
    assert run is not None
    measured = language_model(generation=spoken().model_copy(update={"sustained": run}))
    for limit, status in (("3.9 tok/s", "pass"), ("4.1 tok/s", "fail")):
        found = line(verdict({"speed": {"sustained": limit}}, measured=measured), "speed.sustained")
        assert found.status == status
        assert found.value == pytest.approx(4)
        assert "part 3 of 5, each 12 s, the first 10 tok/s" in found.reason


def test_a_standstill_is_not_passed_over() -> None:
    """One token takes a third of the run: no part without tokens is left out."""
    run = summarise_moments(moments(lambda now: 0.1 if not 20 < now < 21 else 26.0))
    assert run is not None
    assert run.slowest.tokens_per_second == 0
    measured = language_model(generation=spoken().model_copy(update={"sustained": run}))
    found = verdict({"speed": {"sustained": "1 tok/s"}}, measured=measured)
    assert line(found, "speed.sustained").status == "fail"


def test_without_a_run_there_is_no_verdict() -> None:
    found = verdict({"speed": {"sustained": "1 tok/s"}}, measured=language_model())
    assert line(found, "speed.sustained").status == "not run"
    assert summarise_moments([]) is None


def test_what_the_system_says_of_heat_is_said() -> None:
    steps = [
        Moment(end_seconds=i + 1.0, tokens=1, seconds=0.1, megahertz=3000 - 20 * i, celsius=50 + i)
        for i in range(60)
    ]
    run = summarise_moments(steps)
    assert run is not None
    assert "3000 to 1820 MHz, up to 109 °C" in describe(run)


RUN = """\
import sys
import numpy as np
from edgeq.measure.sustained import summarise_moments, sustain

class Busy:
    def prefill(self, ids):
        return self.step(0)

    def step(self, token):
        for _ in range(40_000):
            pass
        return np.zeros(4)

print("begun", flush=True)
run = summarise_moments(sustain(Busy(), np.zeros(1, np.int32), 4, 8.0))
print(run.model_dump_json())
"""


@pytest.fixture
def quota() -> Iterator[Path]:
    """A control group whose share of a CPU can be limited."""
    for root in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")):
        group = root / f"edgeq-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "cpu.max").exists() or (group / "cpu.cfs_quota_us").exists():
            yield group
            group.rmdir()
            return
        group.rmdir()
    pytest.skip("not run: no control group for CPU time can be made here")


def test_a_quota_is_found(quota: Path) -> None:
    """A tenth of a CPU from the fourth second on."""
    from edgeq.measure.records import Sustained

    with subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        (quota / "cgroup.procs").write_text(str(child.pid))
        time.sleep(4)
        if (quota / "cpu.max").exists():
            (quota / "cpu.max").write_text("1000 10000")
        else:
            (quota / "cpu.cfs_period_us").write_text("10000")
            (quota / "cpu.cfs_quota_us").write_text("1000")
        run = Sustained.model_validate_json(child.stdout.read())
    assert run.slowest_part >= 3
    assert run.slowest.tokens_per_second < 0.6 * run.first.tokens_per_second
