"""Artifacts × devices → Verdicts: measure each artifact once, judge it for each device."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
"""An artifact's answers on other CPUs, by its directory."""
Expected = Callable[[str, Device], Estimates]
"""What to expect of an artifact, by its name, on a device."""

__all__ = ["Evaluation", "check"]


def check(
    targets: Mapping[Path, Sequence[Device]],
    float_dir: Path,
    *,
    place: Place,
    budgets: Budgets,
    evaluation: Evaluation | None,
    full: bool,
    alternatives: Alternatives,
    progress: Progress,
    workload: Workload | None = None,
    expected: Expected | None = None,
    compare: Compare | None = None,
    limit: bool = False,
    reference: Callable[[Evaluation], Path] | None = None,
    recipe: str = "RECIPE",
) -> list[Verdict]:
    """A verdict for every artifact directory of `targets` on each of its devices, in that order.

    Everything is run in one place; what that means for another device is said in each line.
    `alternatives` are estimated downloads in bytes by variant, `workload` is what
    language models are asked for (default: that of a recipe without one), `expected` tells what to
    expect of an artifact on a device where nothing can be measured, `compare` gives its answers
    on other CPUs. With `limit` it is run under the memory limits of devices and budgets, too.
    `reference` gives what quality is measured against, as `Bench` takes it.
    `recipe` is the file that remedies name.
    A quick check takes about 20 s for each artifact plus one run on each evaluation sample, a full
    one over 2 min; more where a budget of time needs more runs. Raises InvalidInput if an artifact
    was changed, the evaluation data do not fit the model or memory shall be limited elsewhere than
    here, Missing where it cannot be.
    """
    here = place.device()
    limiter = limiter_for(place) if limit else None
    given = _bearable(evaluation, place)
    with TemporaryFolder() as folder:
        bench = Bench(
            float_dir,
            given,
            reference=reference(given) if reference and given else None,
            place=place,
            effort="full" if full else "quick",
            progress=progress,
            folder=Path(folder),
            workload=workload or Workload(),
            compute_units=_units(here, [device for each in targets.values() for device in each]),
            limits=_time_limits(budgets, targets, here, place),
        )
        subjects = {}
        for directory, devices in targets.items():
            measured, beside = bench.measure(directory)
            subjects[directory] = Subject(
                variant=read_artifact(directory).variant,
                measured=measured,
                beside=beside,
                here=here,
                alternatives=alternatives,
                place=place,
                differences=compare(directory) if compare else None,
                recipe=recipe,
                tried=_tried(bench, directory, devices, budgets, here, limiter, progress),
            )
    references = tuple(subject.beside for subject in subjects.values())
    return [
        judge(
            dataclasses.replace(
                subject,
                expected=expected(subject.measured.artifact, device) if expected else None,
                references=references,
            ),
            device,
            budgets,
        )
        for directory, subject in subjects.items()
        for device in targets[directory]
    ]


def _time_limits(
    budgets: Budgets, targets: Mapping[Path, Sequence[Device]], here: Device, place: Place
) -> dict[str, float]:
    """Budgets of time that are decided by what is measured here."""
    devices = [device for each in targets.values() for device in each]
    if place.how != "measured" or not any(
        device.id == here.id or matches(device, here) for device in devices
    ):
        return {}
    limits = {
        budget.key: budgets.limit(budget)
        for budget in BUDGETS.values()
        if budget.section in ("latency", "speed") and budget.read is None  # those timing knows
    }
    return {key: limit for key, limit in limits.items() if limit is not None}


def _tried(
    bench: Bench,
    directory: Path,
    devices: Sequence[Device],
    budgets: Budgets,
    here: Device,
    limiter: Limiter | None,
    progress: Progress,
) -> Tried | None:
    """The artifact under the limits of its devices, if memory shall be limited."""
    artifact = read_artifact(directory)
    limits = limits_of(devices, here, budgets.memory.peak)
    if limiter is None or not limits or artifact.format not in here.runtimes:
        return None
    return try_limits(bench.timed_request(directory), limits, limiter, progress)


def _bearable(evaluation: Evaluation | None, place: Place) -> Evaluation | None:
    """The evaluation data, or as many of their samples as the place can be asked for."""
    if evaluation is None or place.most_samples is None:
        return evaluation
    return replace(evaluation, samples=min(evaluation.samples or sys.maxsize, place.most_samples))


def _units(here: Device, devices: Sequence[Device]) -> ComputeUnits | None:
    """What Core ML may use: as the first profile says that this machine is; None without it."""
    return next((device for device in devices if matches(device, here)), here).compute_units
