"""Estimates for a recipe's artifacts on a device, corrected by earlier measurements on it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from edgeq.core import canonical
from edgeq.core.files import write_text
from edgeq.core.store import Store
from edgeq.devices.profile import Device, matches
from edgeq.estimate.calibrate import Measured
from edgeq.estimate.devices import Estimates, estimate_for
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.plan.contents import contents_of_plan
from edgeq.pipeline.plan.plan import Planned
from edgeq.pipeline.plan.records import ArtifactPlan
from edgeq.places.place import Place


def expected(planned: Planned, artifact: str, device: Device) -> Estimates:
    """Estimate memory and speed of an artifact of the plan, by its name.

    For a pending budget, the estimate spans the sizes that it may get.
    """
    own = _artifact(planned, artifact)
    if own.pending:
        return planned.prospects[artifact].estimates(lambda each: _expected(planned, each, device))
    return _expected(planned, own, device)


def _expected(planned: Planned, artifact: ArtifactPlan, device: Device) -> Estimates:
    workload = planned.recipe.workload
    return estimate_for(
        contents_of_plan(artifact, planned.recipe.model.task, planned.model),
        device,
        context=workload.context,
        prompt=workload.prompt,
        measured=_seen(device),
    )


def expected_everywhere(planned: Planned) -> dict[str, dict[str, Estimates]]:
    """Map every artifact's name to its estimates on each of its devices, by id.

    Artifacts whose tensors are not decided yet are left out, unless their possible sizes are known.
    """
    return {
        artifact.name: {
            id: expected(planned, artifact.name, planned.devices[id]) for id in artifact.devices
        }
        for artifact in planned.plan.artifacts
        if not artifact.pending or artifact.name in planned.prospects
    }


def remember_speed(planned: Planned, verdict: Verdict, device: Device, place: Place) -> None:
    """Keep the generation speed that was measured on `device` itself, for later estimates."""
    seen = verdict.measurement.generation
    machine = place.device()
    is_own = device.id == machine.id or matches(device, machine)
    if seen is None or place.how != "measured" or not is_own:
        return
    own = _artifact(planned, verdict.artifact)
    contents = contents_of_plan(own, planned.recipe.model.task, planned.model)
    record = {
        "bytes_per_token": contents.bytes_per_token,
        "quant": contents.label,
        "tokens_per_second": seen.generation_speed.tokens_per_second,
    }
    path = _folder(device) / f"{verdict.artifact_sha256}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record))


def _seen(device: Device) -> list[Measured]:
    found = []
    for path in sorted(_folder(device).glob("*.json")):
        # entries of other versions are left out
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Measured(**json.loads(path.read_bytes())))
    return found


def _folder(device: Device) -> Path:
    """The directory of a device's description; other facts make it another device."""
    facts = device.model_dump(mode="json", exclude={"reach", "sources", "advice"})
    return Store().root / "speed" / canonical.sha256_of(facts)


def _artifact(planned: Planned, name: str) -> ArtifactPlan:
    return next(each for each in planned.plan.artifacts if each.name == name)
