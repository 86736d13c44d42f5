"""`edgeq min-memory`: the smallest memory limit under which an artifact still runs well enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from edgeq.core.artifact import Artifact, Frozen
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import How, Progress
from edgeq.core.units import MIB
from edgeq.devices import detect as this_machine
from edgeq.devices.catalogue import HERE, Device, matches
from edgeq.devices.profile import AppLimit, in_range
from edgeq.measure.limit_trial import Trials
from edgeq.pipeline.check.verdict import Status, exit_status
from edgeq.pipeline.compare.runnable import runnable
from edgeq.places import process
from edgeq.places.limits.records import Mechanism, Trial
from edgeq.places.limits.run import available
from edgeq.places.limits.search import Search
from edgeq.places.process import PassFailed, Request
from edgeq.recipe.budgets import Workload

SLOWDOWN = 1.5


class AppVerdict(Frozen):
    """What one app may use on the device, held against the smallest limit that is enough."""

    app_limit: AppLimit
    status: Status
    how: How
    margin_bytes: int | None = Field(
        description="Room between the smallest limit found and this one; negative is missing, null "
        "where no limit was enough or the device is another architecture."
    )
    reason: str


class MinMemory(Frozen):
    """The search and its verdict. Sizes in bytes, of the whole process, Python included."""

    edgeq: Literal[1] = 1
    kind: Literal["min-memory"] = "min-memory"
    artifact: str
    device: str = Field(description="Id of the device.")
    device_name: str
    slowdown: float = Field(
        description="The largest acceptable ratio of the median time under a limit to the median "
        "without one."
    )
    mechanism: Mechanism = Field(description="What held the limits.")
    resolution_bytes: int = Field(description="How near the largest limit that fails is.")
    smallest_bytes: int | None = Field(
        description="The smallest limit that was enough; null if none that was tried is."
    )
    baseline_bytes: int = Field(
        description="Of it, what Python and the runtime take that cannot be dropped; an app "
        "without Python has less."
    )
    unlimited_high_water_bytes: int
    unlimited_anonymous_bytes: int = Field(description="At most, what could not be dropped.")
    inputs: str = Field(description="What was run.")
    runtime: str
    threads: int
    trials: tuple[Trial, ...] = Field(description="By limit; one was tried more than once perhaps.")
    verdicts: tuple[AppVerdict, ...] = Field(
        description="First without an entitlement, which decides."
    )
    status: Status
    exit_status: int = Field(description="0 it fits, 1 it does not, 3 nothing stands in.")
    notes: tuple[str, ...]


def find_min_memory(
    path: Path,
    device: Device,
    *,
    slowdown: float = SLOWDOWN,
    context: int | None = None,
    progress: Progress = lambda step: None,
) -> MinMemory:
    """Find the smallest limit for the artifact, bundle or `.gguf` at `path`; judge `device` by it.

    context: positions of a language model's cache; default 1024, or what it was trained for.
    Takes about twenty passes of 2 to 15 s. Raises InvalidInput for a slowdown of 1 or less, for
    what is no artifact and for one that does not even run without a limit, Missing where memory
    cannot be limited or a runtime is not installed.
    """
    if not slowdown > 1:
        what = f"{slowdown:g} would ask for a limit that makes it faster"
        raise InvalidInput(Problem("--slowdown", what, "give more than 1, e.g. 1.5"))
    limiter = available()
    if isinstance(limiter, str):
        remedy = "run it as root on Linux, or where the user owns a control group"
        raise Missing(Problem("memory limit", f"not run: {limiter}", remedy))
    with TemporaryFolder() as folder:
        progress(f"verify {path}")
        directory, artifact = runnable(path, Path(folder))
        request = Request(
            work="memory", artifact=directory, workload=_workload(path, artifact, context)
        )
        try:
            trials = Trials(request, limiter, slowdown=slowdown, progress=progress)
        except PassFailed as error:
            what = f"does not run without a limit either: {error}"
            raise InvalidInput(Problem(str(path), what)) from None
        search = Search(trials.at, *_bounds(trials, artifact))
        search.run()
        verdicts = tuple(judge(search, device, this_machine.detect()))
    return _result(artifact, device, search, trials, verdicts, limiter.mechanism, slowdown)


def _bounds(trials: Trials, artifact: Artifact) -> tuple[int, int]:
    """Where to begin, and a limit above which nothing is left that a larger one could change.

    That one holds all pages of all files twice: those that are mapped and those that are hashed.
    """
    high_water = trials.memory["high_water_bytes"]
    return high_water, high_water + 2 * artifact.bytes + 64 * MIB


def _workload(path: Path, artifact: Artifact, context: int | None) -> process.Workload | None:
    """What a language model is asked for, within what it was trained for; None for others."""
    if artifact.task != "text-generation":
        if context is not None:
            what = f"{artifact.name} has no context: its task is {artifact.task!r}"
            raise InvalidInput(Problem("--context", what, "leave it out"))
        return None
    longest = artifact.text.max_tokens if artifact.text else None
    usual = Workload()
    chosen = context or min(usual.context, longest or usual.context)
    if chosen < 8 or (longest is not None and chosen > longest):
        what = f"{path} takes 8 to {longest} positions, not {chosen}"
        raise InvalidInput(Problem("--context", what, f"give e.g. {min(longest or 512, 512)}"))
    prompt = min(usual.prompt, chosen // 2)
    return process.Workload(
        context=chosen, prompt=prompt, generate=min(usual.generate, chosen - prompt - 1)
    )


def judge(search: Search, device: Device, here: Device) -> Iterator[AppVerdict]:
    """The device's limit under its release, without an entitlement first, then with each.

    here: the machine the search ran on.
    """
    is_here = device.id == HERE or matches(device, here)
    held = [known for known in device.app_memory if in_range(device.os_version, known.os)]
    for known in sorted(held, key=lambda known: known.entitlement != "none"):
        limit = device.app_limit(known.entitlement)
        if device.arch != here.arch:
            reason = f"run on {here.arch}: kernels for {device.arch} lay weights out otherwise"
            yield AppVerdict(
                app_limit=limit, status="not run", how="not run", margin_bytes=None, reason=reason
            )
            continue
        enough = _is_enough(search, limit.bytes)
        smallest = search.high
        yield AppVerdict(
            app_limit=limit,
            status="pass" if enough else "fail",
            how="measured" if is_here else "emulated",
            margin_bytes=None if smallest is None else limit.bytes - smallest,
            reason=_said(device, here, is_here),
        )


def _is_enough(search: Search, limit: int) -> bool:
    """Whether the limit is; one between what is and what is not is tried itself."""
    high = search.high
    if high is not None and limit >= high:
        return True
    return limit > search.low and search.at(limit).outcome == "fits"


def _said(device: Device, here: Device, is_here: bool) -> str:
    said = [] if is_here else [f"run on {here.chip}, which has the same architecture"]
    if device.counts == "footprint":
        said.append(
            "the device does not count clean mapped files against an app; here they were held too"
        )
    return "; ".join(said)


def _result(
    artifact: Artifact,
    device: Device,
    search: Search,
    trials: Trials,
    verdicts: tuple[AppVerdict, ...],
    mechanism: Mechanism,
    slowdown: float,
) -> MinMemory:
    memory: dict[str, Any] = trials.memory
    status = verdicts[0].status
    return MinMemory(
        artifact=artifact.name,
        device=device.id,
        device_name=device.name,
        slowdown=slowdown,
        mechanism=mechanism,
        resolution_bytes=search.resolution,
        smallest_bytes=search.high,
        baseline_bytes=memory["baseline"]["anonymous_bytes"],
        unlimited_high_water_bytes=memory["high_water_bytes"],
        unlimited_anonymous_bytes=memory["anonymous_peak_bytes"],
        inputs=trials.latency["inputs"],
        runtime=memory["runtime"],
        threads=memory["threads"],
        trials=tuple(sorted(search.trials, key=lambda trial: trial.limit_bytes)),
        verdicts=verdicts,
        status=status,
        exit_status=exit_status([status]),
        notes=tuple(_notes(search, mechanism)),
    )


def _notes(search: Search, mechanism: Mechanism) -> Iterator[str]:
    if search.high is None:
        yield "no limit was enough, not even one that all files fit in: is the machine busy?"
    warm = max(trial.warm_bytes for trial in search.trials)
    if warm:
        yield (
            f"{-(-warm // MIB)} MiB of its files stayed in memory, because another process maps "
            "them or they lie on a file system in memory: no limit held those"
        )
    if mechanism == "RLIMIT_DATA":
        yield (
            "RLIMIT_DATA counts what is reserved to write, touched or not, and no mapped weights: "
            "coarser than a control group"
        )
