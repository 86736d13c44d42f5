"""`edgeq min-memory`: the smallest memory limit under which an artifact runs acceptably fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Artifact, Frozen
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.tasks import task_of
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import How, Progress
from edgeq.core.units import MIB
from edgeq.devices import detect as this_machine
from edgeq.devices.catalogue import HERE, Device, matches
from edgeq.devices.profile import AppLimit, in_range
from edgeq.measure.limit_trial import Trials
from edgeq.pipeline.check.verdict import Status, exit_status
from edgeq.pipeline.compare.runnable import runnable
from edgeq.places.limits.records import Mechanism, Trial
from edgeq.places.limits.run import available
from edgeq.places.limits.search import Search
from edgeq.places.process import PassFailed, Request
from edgeq.recipe.budgets import Workload

SLOWDOWN = 1.5


class AppVerdict(Frozen):
    """The memory one app may use on the device, compared with the smallest sufficient limit."""

    app_limit: AppLimit
    status: Status
    how: How
    margin_bytes: int | None = Field(
        description="This limit minus the smallest sufficient one; negative if too small, null if "
        "no limit was sufficient or the device has another architecture."
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
    mechanism: Mechanism = Field(description="The mechanism that enforced the limits.")
    resolution_bytes: int = Field(description="Distance to the largest limit that fails.")
    smallest_bytes: int | None = Field(
        description="The smallest sufficient limit; null if none of those tried was sufficient."
    )
    baseline_bytes: int = Field(
        description="The part of it used by Python and the runtime that cannot be dropped; less "
        "in an app without Python."
    )
    unlimited_high_water_bytes: int
    unlimited_anonymous_bytes: int = Field(
        description="Peak of the memory that could not be dropped."
    )
    inputs: str = Field(description="The inputs of the passes.")
    runtime: str
    threads: int
    trials: tuple[Trial, ...] = Field(
        description="Sorted by limit; a limit may be tried more than once."
    )
    verdicts: tuple[AppVerdict, ...] = Field(
        description="Verdicts; the first, without an entitlement, decides."
    )
    status: Status
    exit_status: int = Field(description="0 it fits, 1 it does not, 3 no stand-in is available.")
    notes: tuple[str, ...]


def find_min_memory(
    path: Path,
    device: Device,
    *,
    slowdown: float = SLOWDOWN,
    context: int | None = None,
    progress: Progress = lambda step: None,
) -> MinMemory:
    """Find the smallest limit for the artifact, bundle or `.gguf` at `path`, and judge `device` by
    it.

    context: positions of a language model's cache; default 1024, or its trained length if shorter.
    Takes about twenty passes of 2 to 15 s. Raises InvalidInput for a slowdown of 1 or less, for a
    path that is not an artifact and for an artifact that does not run even without a limit, Missing
    if memory cannot be limited or a runtime is not installed.
    """
    if not slowdown > 1:
        what = f"{slowdown:g} is a limit under which it would have to run faster"
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
    """Return where to begin, and a limit above which a larger one changes nothing.

    The latter holds all pages of all files twice: once mapped and once for hashing.
    """
    high_water = trials.memory.high_water_bytes
    return high_water, high_water + 2 * artifact.bytes + 64 * MIB


def _workload(path: Path, artifact: Artifact, context: int | None) -> Workload | None:
    """The work given to a language model, within its trained length; None for others."""
    if not task_of(artifact.task).generates:
        if context is not None:
            what = f"{artifact.name} has no context: its task is {artifact.task!r}"
            raise InvalidInput(Problem("--context", what, "omit --context"))
        return None
    longest = artifact.text.max_tokens if artifact.text else None
    usual = Workload()
    chosen = context or min(usual.context, longest or usual.context)
    if chosen < 8 or (longest is not None and chosen > longest):
        what = f"{path} takes 8 to {longest} positions, not {chosen}"
        raise InvalidInput(Problem("--context", what, f"give e.g. {min(longest or 512, 512)}"))
    prompt = min(usual.prompt, chosen // 2)
    return Workload(
        context=chosen, prompt=prompt, generate=min(usual.generate, chosen - prompt - 1)
    )


def judge(search: Search, device: Device, here: Device) -> Iterator[AppVerdict]:
    """Compare with the device's limit for its release, first without an entitlement, then with
    each.

    here: the machine the search ran on.
    """
    is_here = device.id == HERE or matches(device, here)
    limits = [known for known in device.app_memory if in_range(device.os_version, known.os)]
    for known in sorted(limits, key=lambda known: known.entitlement != "none"):
        limit = device.app_limit(known.entitlement)
        if device.arch != here.arch:
            reason = f"run on {here.arch}: kernels for {device.arch} use another weight layout"
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
    """Whether the limit is sufficient; one between known outcomes is tried."""
    high = search.high
    if high is not None and limit >= high:
        return True
    return limit > search.low and search.at(limit).outcome == "fits"


def _said(device: Device, here: Device, is_here: bool) -> str:
    said = [] if is_here else [f"run on {here.chip}, which has the same architecture"]
    if device.counts == "footprint":
        said.append(
            "the device does not count clean mapped files against an app; here they were counted "
            "too"
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
    memory = trials.memory
    status = verdicts[0].status
    return MinMemory(
        artifact=artifact.name,
        device=device.id,
        device_name=device.name,
        slowdown=slowdown,
        mechanism=mechanism,
        resolution_bytes=search.resolution,
        smallest_bytes=search.high,
        baseline_bytes=memory.baseline.anonymous_bytes,
        unlimited_high_water_bytes=memory.high_water_bytes,
        unlimited_anonymous_bytes=memory.anonymous_peak_bytes,
        inputs=trials.latency.inputs,
        runtime=memory.runtime,
        threads=memory.threads,
        trials=tuple(sorted(search.trials, key=lambda trial: trial.limit_bytes)),
        verdicts=verdicts,
        status=status,
        exit_status=exit_status([status]),
        notes=tuple(_notes(search, mechanism)),
    )


def _notes(search: Search, mechanism: Mechanism) -> Iterator[str]:
    if search.high is None:
        yield "no limit was sufficient, not even one that holds all files: is the machine busy?"
    warm = max(trial.warm_bytes for trial in search.trials)
    if warm:
        yield (
            f"{-(-warm // MIB)} MiB of its files stayed in memory, because another process maps "
            f"them or they lie on a file system in memory: the limits did not cover those"
        )
    if mechanism == "RLIMIT_DATA":
        yield (
            "RLIMIT_DATA counts writable memory that is reserved, touched or not, and no mapped "
            "weights: coarser than a control group"
        )
