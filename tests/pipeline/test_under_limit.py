"""Checks under real memory limits: a budget is kept where the artifact survives it, too."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeq.core.errors import InvalidInput
from edgeq.core.terms import How
from edgeq.core.units import MIB
from edgeq.devices.catalogue import load_device
from edgeq.devices.profile import Device
from edgeq.pipeline.check.check import CheckRequest, check
from edgeq.pipeline.check.under_limit import limiter_for, limits_of, under_limit
from edgeq.places.limits.records import Outcome, Trial, Tried
from edgeq.places.limits.run import GroupLimiter, available
from edgeq.places.place import ALL_PASSES, Here, Place
from edgeq.places.process import Request
from edgeq.recipe.budgets import Budgets
from edgeq.report.console import make_console
from edgeq.report.terminal import print_verdict
from tests.places.test_limits import left_behind
from tests.support import samples
from tests.support.verdicts import line, verdict

FOUND = available() if sys.platform == "linux" else "limits are Linux's"
groups = pytest.mark.skipif(
    not isinstance(FOUND, GroupLimiter),
    reason=FOUND if isinstance(FOUND, str) else "no control group can be made here",
)


def tight(id: str, size: int) -> Device:
    """This machine, where an app gets no more than `size` bytes."""
    here = load_device("here")
    known = here.app_memory[0].model_copy(update={"limit": size})
    return here.model_copy(update={"id": id, "app_memory": (known,)})


@groups
def test_a_limit_just_above_passes_and_just_below_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other work on this machine must not make a run too slow: memory alone decides.
    monkeypatch.setattr("edgeq.pipeline.check.under_limit.SLOWDOWN", 1000.0)
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=1024, deeper=9)  # 40 MiB
    peak = Here().run(Request(work="memory", artifact=artifact))["high_water_bytes"]
    devices = [tight("below", peak - 4 * MIB), tight("far-below", 24 * MIB)]
    request = CheckRequest(
        targets={artifact: devices},
        float_dir=artifact,
        budgets=Budgets.model_validate({"memory": {"peak": f"{peak / MIB + 4} MiB"}}),
        evaluation=None,
        alternatives={},
        limit=True,
    )
    found = check(request, Here(), lambda step: None)
    assert left_behind() == []
    below, far_below = found
    assert below.tried is not None and len(below.tried.trials) == 3
    above = line(below, "memory.peak")
    assert above.status == "pass", above.reason
    assert re.match(
        r"survived under .* MiB \(cgroup v\d\), peak .*, .* times as long", above.reason
    )
    # It survives there, since pages of weights can be dropped, but it was seen to take more.
    assert line(below, "device.memory").status == "fail"
    killed = line(far_below, "device.memory")
    assert killed.status == "fail" and killed.reason.startswith("killed: ")
    output = io.StringIO()
    for one in found:
        print_verdict(one, make_console(output))
    text = output.getvalue()
    assert text.isascii() and max(map(len, text.splitlines())) <= 80
    assert "survived under" in text


def trial(outcome: Outcome, limit: int) -> Tried:
    """One trial; killed, it left only its reason."""
    ran = outcome != "killed"
    one = Trial(
        limit_bytes=limit,
        outcome=outcome,
        group_peak_bytes=limit,
        reason="" if ran else "SIGKILL",
        high_water_bytes=90 * MIB if ran else None,
        ratio=(1.02 if outcome == "fits" else 3.0) if ran else None,
    )
    return Tried(mechanism="cgroup v2", trials=(one,))


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        ("fits", "pass", "survived under 200.0 MiB (cgroup v2), peak 90.0 MiB, 1.02 times"),
        ("too slow", "fail", "too slow: 3.00 times"),
        ("killed", "fail", "killed: SIGKILL"),
    ],
)
def test_a_trial_can_take_a_pass_away(outcome: Outcome, status: str, words: str) -> None:
    number = line(verdict({"memory": {"peak": "200 MiB"}}), "memory.peak")
    found = under_limit(number, trial(outcome, 200 * MIB))
    assert found.status == status and words in found.reason
    assert bool(found.remedy) == (status == "fail")
    assert under_limit(number, trial(outcome, 100 * MIB)) == number
    over = line(verdict({"memory": {"peak": "100 MiB"}}), "memory.peak")
    assert under_limit(over, trial(outcome, 100 * MIB)).status == "fail"


def test_only_devices_of_this_architecture_have_limits_to_try() -> None:
    here = load_device("here")
    arch = {"x86_64": "aarch64", "aarch64": "x86_64"}[here.arch]
    other = here.model_copy(update={"arch": arch})
    assert limits_of([other], here, 5 * MIB) == set()
    assert limits_of([here, other], here, 5 * MIB) == {here.app_limit().bytes, 5 * MIB}
    assert limits_of([here], here, None) == {here.app_limit().bytes}


class Elsewhere(Place):
    """Another machine that is never asked anything."""

    name = "elsewhere"
    how: How = "measured"
    passes = ALL_PASSES

    def run(self, request: Request, timeout_seconds: float | None = None) -> dict[str, Any]:
        raise AssertionError("nothing is run there")

    def device(self) -> Device:
        raise AssertionError("nothing is asked there")


def test_memory_is_limited_here_alone() -> None:
    with pytest.raises(InvalidInput, match="--limit"):
        limiter_for(Elsewhere())
