"""Artifacts × devices → Verdicts: measure each artifact once, judge it for each device."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeq.artifact import read_artifact
from edgeq.budgets import Budgets, Workload
from edgeq.compute_units import ComputeUnits
from edgeq.judge import Subject, judge
from edgeq.measure.bench import Bench, Progress
from edgeq.measure.given import Evaluation
from edgeq.profile import Device, matches
from edgeq.remedies import Alternatives
from edgeq.verdict import Verdict

__all__ = ["Evaluation", "check"]


def check(
    targets: Mapping[Path, Sequence[Device]],
    float_dir: Path,
    *,
    here: Device,
    budgets: Budgets,
    evaluation: Evaluation | None,
    full: bool,
    alternatives: Alternatives,
    progress: Progress,
    workload: Workload | None = None,
) -> list[Verdict]:
    """A verdict for every artifact directory of `targets` on each of its devices, in that order.

    Everything is run on this machine, which is `here`; what that means for another device is said
    in each line. `alternatives` are estimated downloads in bytes by variant, `workload` is what
    language models are asked for (default: that of a recipe without one). A quick check takes
    about 20 s for each artifact plus one run on each evaluation sample, a full one over 2 min.
    Raises InvalidInput if an artifact was changed or the evaluation data do not fit the model.
    """
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        bench = Bench(
            float_dir,
            evaluation,
            here=here,
            effort="full" if full else "quick",
            progress=progress,
            folder=Path(folder),
            workload=workload or Workload(),
            compute_units=_units(here, [device for each in targets.values() for device in each]),
        )
        for directory, devices in targets.items():
            measured, beside = bench.measure(directory)
            variant = read_artifact(directory).variant
            subject = Subject(variant, measured, beside, here, alternatives)
            verdicts += [judge(subject, device, budgets) for device in devices]
    return verdicts


def _units(here: Device, devices: Sequence[Device]) -> ComputeUnits | None:
    """What Core ML may use: as the first profile says that this machine is; None without it."""
    return next((device for device in devices if matches(device, here)), here).compute_units
