"""`edgeq check --limit`: an artifact under each device's real memory limit, and under the budget.

A peak measured without a limit shows what a process used while there was plenty. How it behaves
when memory runs out shows only under a limit: killed, or slower, as pages of mapped weights are
dropped and read again. So a memory line whose limit was tried passes only if both its number and
the trial do. `edgeq min-memory` searches; this tries the limits that were asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.terms import Progress
from edgeq.core.units import format_bytes
from edgeq.devices.profile import Device
from edgeq.measure.limit_trial import Trials
from edgeq.pipeline.check.min_memory import SLOWDOWN
from edgeq.pipeline.check.verdict import Line
from edgeq.places.limits.records import Mechanism, Trial, Tried
from edgeq.places.limits.run import Limiter, available
from edgeq.places.place import Here, Place
from edgeq.places.process import PassFailed, Request

FITS = "`edgeq min-memory` on the artifact finds the smallest limit that is enough"


def limiter_for(place: Place) -> Limiter:
    """The mechanism that limits memory in `place`, which must be this machine.

    Raises InvalidInput for another place, Missing with the reason if nothing can limit it.
    """
    if not isinstance(place, Here):
        what = f"memory cannot be limited on {place.name} from here"
        raise InvalidInput(
            Problem("--limit", what, "run the check there with --limit, or omit --limit")
        )
    found = available()
    if isinstance(found, str):
        remedy = "run it as root on Linux, or where the user owns a control group"
        raise Missing(Problem("--limit", f"not run: {found}", f"{remedy}; or omit --limit"))
    return found


def limits_of(devices: Sequence[Device], here: Device, budget: int | None) -> set[int]:
    """Limits to try, in bytes: for devices of this architecture, their limits and the budget."""
    own = {device.app_limit().bytes for device in devices if device.arch == here.arch}
    return own | ({budget} if own and budget is not None else set())


def try_limits(
    request: Request, limits: Iterable[int], limiter: Limiter, progress: Progress
) -> Tried:
    """Run `request` under each limit, in bytes."""
    try:
        trials = Trials(request, limiter, slowdown=SLOWDOWN, progress=progress)
    except PassFailed:
        # The passes without a limit are measured too; their failure is reported there.
        return Tried(mechanism=limiter.mechanism, trials=())
    found = tuple(trials.at(limit) for limit in sorted(limits))
    return Tried(mechanism=limiter.mechanism, trials=found)


def under_limit(line: Line, tried: Tried) -> Line:
    """Add the result of the trial to `line`, on memory, if its limit was tried."""
    trial = next((trial for trial in tried.trials if trial.limit_bytes == line.limit), None)
    if trial is None or line.status == "not run":
        return line
    reason = "; ".join(filter(None, [_words(trial, tried.mechanism), line.reason]))
    if trial.outcome == "fits":
        return line.model_copy(update={"reason": reason})
    remedy = FITS if line.status == "pass" else line.remedy
    return line.model_copy(update={"reason": reason, "status": "fail", "remedy": remedy})


def _words(trial: Trial, mechanism: Mechanism) -> str:
    if trial.reason:  # the reason names the limit, its mechanism and the cause of death
        return f"{trial.outcome}: {trial.reason}"
    assert trial.ratio is not None and trial.high_water_bytes is not None
    peak = format_bytes(trial.high_water_bytes)
    pace = f"{trial.ratio:.2f} times as long as without"
    if trial.outcome == "too slow":
        pace = f"too slow: {pace}, at most {SLOWDOWN:g} is accepted"
    limit = f"{format_bytes(trial.limit_bytes)} ({mechanism})"
    return f"survived under {limit}, peak {peak}, {pace}"
