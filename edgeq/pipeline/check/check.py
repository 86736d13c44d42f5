"""Artifacts × devices → Verdicts: measure each artifact once, judge it for each device."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeq.core.artifact import read_artifact
from edgeq.core.budgets import BUDGETS
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import Progress
from edgeq.devices.compute_units import ComputeUnits
from edgeq.devices.profile import Device, matches
from edgeq.estimate.devices import Estimates
from edgeq.measure.bench import Bench
from edgeq.measure.cross_cpu.records import Differences
from edgeq.measure.inputs import Evaluation
from edgeq.pipeline.check.judge import judge
from edgeq.pipeline.check.subject import Alternatives, Subject
from edgeq.pipeline.check.under_limit import limiter_for, limits_of, try_limits
from edgeq.pipeline.check.verdict import Verdict
from edgeq.places.limits.records import Tried
from edgeq.places.limits.run import Limiter
from edgeq.places.place import Place
from edgeq.recipe.budgets import Budgets, Workload

Compare = Callable[[Path], Differences | None]
"""Compares an artifact's answers across CPUs, given its directory."""
Expected = Callable[[str, Device], Estimates]
"""Estimates for an artifact, by name, on a device."""

__all__ = ["CheckRequest", "Evaluation", "check"]


@dataclass(frozen=True)
class CheckRequest:
    """What is checked, and against what.

    targets: artifact directories, each with the devices it is judged for. float_dir: full precision
    of the same model. alternatives: estimated downloads in bytes by variant. full: over 2 min for
    each artifact instead of about 20 s, both plus a run on each evaluation sample, and more if a
    time budget needs more runs. workload: of language models. limit: artifacts also run under the
    memory limits of devices and budgets. recipe: the file that remedies name. expected: estimates
    for a device where nothing can be measured. compare: compares answers across CPUs. reference:
    gives the answers that quality is measured against, as `Bench` takes it.
    """

    targets: Mapping[Path, Sequence[Device]]
    float_dir: Path
    budgets: Budgets
    evaluation: Evaluation | None
    alternatives: Alternatives
    full: bool = False
    workload: Workload = field(default_factory=Workload)
    limit: bool = False
    recipe: str = "RECIPE"
    expected: Expected | None = None
    compare: Compare | None = None
    reference: Callable[[Evaluation], Path] | None = None

    @property
    def devices(self) -> list[Device]:
        """The devices of all targets."""
        return [device for each in self.targets.values() for device in each]


def check(request: CheckRequest, place: Place, progress: Progress) -> list[Verdict]:
    """Verdicts for every artifact on each of its devices, in the order of the request's targets.

    Everything runs in `place`; each line says how its figure counts for another device. Raises
    InvalidInput if an artifact was changed, the evaluation data do not fit the model or memory is
    to be limited in a place other than this machine, Missing if memory cannot be limited.
    """
    limiter = limiter_for(place) if request.limit else None
    with TemporaryFolder() as folder:
        bench = _bench(request, place, progress, Path(folder))
        subjects = {
            directory: _subject(request, directory, bench, place, limiter, progress)
            for directory in request.targets
        }
    references = tuple(subject.baseline for subject in subjects.values())
    return [
        judge(
            replace(
                subject,
                expected=request.expected(subject.measured.artifact, device)
                if request.expected
                else None,
                references=references,
            ),
            device,
            request.budgets,
        )
        for directory, subject in subjects.items()
        for device in request.targets[directory]
    ]


def _bench(request: CheckRequest, place: Place, progress: Progress, folder: Path) -> Bench:
    here, given = place.device(), _bearable(request.evaluation, place)
    limits = _time_limits(request, place)
    recorded = None if given is None or given.only_timed else request.reference
    return Bench(
        request.float_dir,
        given,
        reference=(lambda: recorded(given)) if recorded and given else None,
        place=place,
        effort="full" if request.full else "quick",
        progress=progress,
        folder=folder,
        workload=request.workload,
        compute_units=_units(here, request.devices),
        limits=limits,
        sustain_seconds=request.budgets.speed.sustained_seconds if limits else None,
    )


def _subject(
    request: CheckRequest,
    directory: Path,
    bench: Bench,
    place: Place,
    limiter: Limiter | None,
    progress: Progress,
) -> Subject:
    measured, baseline = bench.measure(directory)
    return Subject(
        variant=read_artifact(directory).variant,
        measured=measured,
        baseline=baseline,
        here=place.device(),
        alternatives=request.alternatives,
        place=place,
        differences=request.compare(directory) if request.compare else None,
        recipe=request.recipe,
        tried=_tried(request, directory, bench, place.device(), limiter, progress),
    )


def _time_limits(request: CheckRequest, place: Place) -> dict[str, float]:
    """Time budgets that measurements in this place decide."""
    here = place.device()
    if place.how != "measured" or not any(
        device.id == here.id or matches(device, here) for device in request.devices
    ):
        return {}
    limits = {
        budget.key: request.budgets.limit(budget)
        for budget in BUDGETS.values()
        # only budgets known to the timing pass
        if budget.section in ("latency", "speed") and budget.read is None
    }
    return {key: limit for key, limit in limits.items() if limit is not None}


def _tried(
    request: CheckRequest,
    directory: Path,
    bench: Bench,
    here: Device,
    limiter: Limiter | None,
    progress: Progress,
) -> Tried | None:
    """Run the artifact under the limits of its devices, if memory is to be limited."""
    limits = limits_of(request.targets[directory], here, request.budgets.memory.peak)
    runs_here = read_artifact(directory).format in here.runtimes
    if limiter is None or not limits or not runs_here:
        return None
    return try_limits(bench.timed_request(directory), limits, limiter, progress)


def _bearable(evaluation: Evaluation | None, place: Place) -> Evaluation | None:
    """The evaluation data, or as many samples as the place can handle."""
    if evaluation is None or place.most_samples is None:
        return evaluation
    return replace(evaluation, samples=min(evaluation.samples or sys.maxsize, place.most_samples))


def _units(here: Device, devices: Sequence[Device]) -> ComputeUnits | None:
    """Compute units for Core ML: from the first profile that matches this machine; None without
    one.
    """
    return next((device for device in devices if matches(device, here)), here).compute_units
