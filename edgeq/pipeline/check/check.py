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
"""Compares an artifact's answers across CPUs, given its directory."""
Expected = Callable[[str, Device], Estimates]
"""Estimates for an artifact, by name, on a device."""

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
    """Return a verdict for every artifact directory in `targets` on each of its devices, in that
    order.

    Everything runs in one place; each line says how its figure counts for another device.
    `alternatives` are estimated downloads in bytes by variant, `workload` is the work given to
    language models (default: that of a recipe without one), `expected` estimates figures for a
    device where nothing can be measured, `compare` compares answers across CPUs. With `limit`,
    artifacts also run under the memory limits of devices and budgets. `reference` gives the answers
    that quality is measured against, as `Bench` takes it. `recipe` is the file that remedies name.

    A quick check takes about 20 s for each artifact plus one run on each evaluation sample, a full
    one over 2 min; more if a time budget needs more runs. Raises InvalidInput if an artifact was
    changed, the evaluation data do not fit the model or memory is to be limited in a place other
    than this machine, Missing if memory cannot be limited.
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
            measured, baseline = bench.measure(directory)
            subjects[directory] = Subject(
                variant=read_artifact(directory).variant,
                measured=measured,
                baseline=baseline,
                here=here,
                alternatives=alternatives,
                place=place,
                differences=compare(directory) if compare else None,
                recipe=recipe,
                tried=_tried(bench, directory, devices, budgets, here, limiter, progress),
            )
    references = tuple(subject.baseline for subject in subjects.values())
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
    """Time budgets that measurements in this place decide."""
    devices = [device for each in targets.values() for device in each]
    if place.how != "measured" or not any(
        device.id == here.id or matches(device, here) for device in devices
    ):
        return {}
    limits = {
        budget.key: budgets.limit(budget)
        for budget in BUDGETS.values()
        # only budgets known to the timing pass
        if budget.section in ("latency", "speed") and budget.read is None
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
    """Run the artifact under the limits of its devices, if memory is to be limited."""
    artifact = read_artifact(directory)
    limits = limits_of(devices, here, budgets.memory.peak)
    if limiter is None or not limits or artifact.format not in here.runtimes:
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
