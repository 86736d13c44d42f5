"""Collect everything known about a recipe or a bundle in a Report."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import edgeq
from edgeq.core import canonical
from edgeq.core.artifact import ARTIFACT_FILE, seal
from edgeq.core.errors import EdgeqError, InvalidInput, Problem
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.devices.catalogue import HERE, Device, load_device
from edgeq.devices.profile import AppLimit, Entitlement
from edgeq.estimate.contents import Contents, contents_of_artifact
from edgeq.estimate.devices import estimate_for
from edgeq.estimate.memory import estimate_memory
from edgeq.formats.bundle import read_bundle, read_verdicts
from edgeq.models.architectures import DEFAULT_CONTEXT
from edgeq.pipeline.build.build import build_possible, settled
from edgeq.pipeline.check.expected import expected
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.check.workflow import chosen_devices, kept_verdicts
from edgeq.pipeline.frontier import records
from edgeq.pipeline.frontier.records import Frontier
from edgeq.pipeline.parts import kept_parts
from edgeq.pipeline.plan.contents import contents_of_plan
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.recipe.parts import has_parts, load_parts
from edgeq.report.page.boxes import redrawn_images
from edgeq.report.page.record import (
    ContextMemory,
    Report,
    ReportedArtifact,
    ReportedDevice,
    thinned,
)
from edgeq.report.page.sensed import Known

_MOST_CONTEXTS = 5
_ENTITLEMENTS: tuple[Entitlement, ...] = ("none", "increased-memory-limit")


def report_of(path: Path, devices: Sequence[str], progress: Progress) -> Report:
    """Collect the report of the recipe or bundle at `path`.

    For a recipe, artifacts are built and verdicts measured unless the store has them: for `devices`
    (ids or files), by default those of the recipe. A bundle contains the results measured when it
    was made. Raises what building and checking raise.
    """
    if zipfile.is_zipfile(path):
        if devices:
            remedy = "leave --device out, or name the recipe"
            raise InvalidInput(
                Problem("--device", "a bundle holds results of its own device only", remedy)
            )
        return _of_bundle(path)
    if has_parts(path):
        return _of_parts(path, devices, progress)
    return _of_recipe(path, devices, progress)


def _of_recipe(path: Path, names: Sequence[str], progress: Progress) -> Report:
    progress("read the recipe")
    planned = make_plan(path, weights=True)
    devices = chosen_devices(planned, names)
    built, _ = build_possible(planned, Store(), progress)
    planned = settled(planned, built)
    verdicts, step = thinned(tuple(kept_verdicts(planned, built, devices, progress)))
    known = Known(planned, progress)
    plans, model = {each.name: each for each in planned.plan.artifacts}, planned.model
    artifacts = tuple(
        ReportedArtifact(
            record=item.artifact,
            sha256=canonical.sha256_of_file(item.path / ARTIFACT_FILE),
            estimates={
                device.id: expected(planned, item.artifact.name, device)
                for device in devices.values()
                if item.artifact.format in device.runtimes
            },
            contexts=_lengths(
                contents_of_plan(plans[item.artifact.name], planned.recipe.model.task, model),
                planned.recipe.workload.context,
            ),
            losses=known.losses(item.artifact),
            fitted=known.fitted(item.artifact),
        )
        for item in built
    )
    evaluation = planned.recipe.data.evaluation
    return Report(
        version=edgeq.__version__,
        name=planned.plan.recipe,
        command=_command(path, names),
        recipe=path.read_text(encoding="utf-8"),
        recipe_path=path.as_posix(),
        task=planned.recipe.model.task,
        devices=tuple(_device(device) for device in devices.values()),
        artifacts=artifacts,
        verdicts=verdicts,
        frontier=_frontier(planned, devices),
        kept=step,
        refused=dict(planned.impossible),
        images=redrawn_images(path.parent / evaluation.path, verdicts) if evaluation else {},
    )


def _of_parts(path: Path, names: Sequence[str], progress: Progress) -> Report:
    """All parts as one model, with the verdict on them together."""
    wholes = kept_parts(path, names, False, progress)
    verdicts, step = thinned(tuple(each.verdict for each in wholes))
    built = {each.built.path: each.built.artifact for each in wholes}
    first, *_ = built.values()
    return Report(
        version=edgeq.__version__,
        name=load_parts(path).name,
        command=_command(path, names),
        recipe=path.read_text(encoding="utf-8"),
        recipe_path=path.as_posix(),
        task=first.task,
        devices=tuple({each.device.id: _device(each.device) for each in wholes}.values()),
        artifacts=tuple(
            ReportedArtifact(
                record=record,
                sha256=canonical.sha256_of_file(folder / ARTIFACT_FILE),
                estimates={},
            )
            for folder, record in built.items()
        ),
        verdicts=verdicts,
        kept=step,
    )


def _command(path: Path, devices: Sequence[str]) -> str:
    options = "".join(f" --device {name}" for name in devices)
    return f"edgeq report {path.as_posix()}{options} --out report.html"


def _frontier(planned: Planned, devices: Mapping[str, Device]) -> Frontier | None:
    """A frontier measured for one of the devices or this machine: sizes and losses are equal."""
    found = (records.known(planned, device) for device in devices.values())
    own = next((each for each in found if each is not None), None)
    return own or records.known(planned, load_device(HERE))


def _of_bundle(path: Path) -> Report:
    bundle = read_bundle(path)
    verdicts, step = thinned(tuple(map(Verdict.model_validate, read_verdicts(path, bundle))))
    artifact = bundle.artifact
    profiles = {verdict.device: _profile(verdict.device) for verdict in verdicts}
    contents = contents_of_artifact(artifact)
    context = _measured_context(verdicts)
    estimates = {
        id: estimate_for(contents, profile, context=context)
        for id, profile in profiles.items()
        if profile is not None
    }
    sha256 = hashlib.sha256(seal(artifact.model_dump(mode="json"))).hexdigest()
    return Report(
        version=edgeq.__version__,
        name=path.stem,
        command=f"edgeq report {path.as_posix()} --out report.html",
        recipe=bundle.recipe,
        task=artifact.task,
        devices=tuple(
            _device(profile) if (profile := profiles[v.device]) else _measured_device(v)
            for v in verdicts
        ),
        artifacts=(
            ReportedArtifact(
                record=artifact,
                sha256=sha256,
                estimates=estimates,
                contexts=_lengths(contents, context),
            ),
        ),
        verdicts=verdicts,
        kept=step,
    )


def _device(device: Device) -> ReportedDevice:
    return ReportedDevice(
        id=device.id,
        name=device.name,
        chip=device.chip,
        ram=device.ram,
        counts=device.counts,
        limits=tuple(_limits(device)),
    )


def _limits(device: Device) -> Iterator[AppLimit]:
    for entitlement in _ENTITLEMENTS:
        with contextlib.suppress(InvalidInput):  # few systems have the second limit
            yield device.app_limit(entitlement)


def _profile(id: str) -> Device | None:
    """The profile of a device that a bundle names; its `here` was another machine than this one."""
    if id == HERE:
        return None
    try:
        return load_device(id)
    except EdgeqError:  # a file on the machine where the bundle was made
        return None


def _measured_device(verdict: Verdict) -> ReportedDevice:
    return ReportedDevice(id=verdict.device, name=verdict.device_name, limits=(verdict.app_limit,))


def _measured_context(verdicts: Sequence[Verdict]) -> int:
    found = (verdict.measurement.memory for verdict in verdicts)
    return next((each.context for each in found if each and each.context), DEFAULT_CONTEXT)


def _lengths(contents: Contents, context: int) -> tuple[ContextMemory, ...]:
    """Estimate memory at the workload's context, doubled up to the trained length."""
    sizes = contents.sizes
    if sizes is None or not sizes.is_decoder:
        return ()
    lengths = [context]
    while len(lengths) < _MOST_CONTEXTS and 2 * lengths[-1] <= sizes.longest:
        lengths.append(2 * lengths[-1])
    return tuple(
        ContextMemory(context=each, parts=estimate_memory(contents, context=each).parts)
        for each in lengths
    )
