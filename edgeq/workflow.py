"""The verbs of the command line as functions: plan, build, check and bundle a recipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeq import canonical
from edgeq.artifact import ARTIFACT_FILE
from edgeq.build import Built, build, build_float
from edgeq.bundle import write_bundle
from edgeq.device import HERE, Device, load_device
from edgeq.errors import EXIT_PASS, EdgeqError, InvalidInput, Problem
from edgeq.files import writable
from edgeq.plan import Planned, make_plan
from edgeq.quantize.presets import Format
from edgeq.store import Store, code_version
from edgeq.stores import LimitLine, sized
from edgeq.verdict import Verdict, exit_status
from edgeq.wording import suggest

Progress = Callable[[str], None]


class NotPassed(EdgeqError):
    """A bundle was asked for and no artifact passed; carries the verdicts that say why."""

    def __init__(self, verdicts: Sequence[Verdict], problem: Problem) -> None:
        super().__init__(problem)
        self.verdicts = tuple(verdicts)
        lines = [line.status for verdict in verdicts for line in verdict.lines]
        self.exit_code = exit_status(lines)


@dataclass(frozen=True)
class Bundled:
    """A written bundle: the artifact in it and its verdict, None if it was not checked.

    limits: its size and memory against those of the device's store and the device.
    """

    path: Path
    artifact: str
    verdict: Verdict | None
    limits: tuple[LimitLine, ...]

    def summary(self) -> dict[str, Any]:
        """What a program wants to know of it."""
        return {
            "path": str(self.path.absolute()),
            "artifact": self.artifact,
            "bytes": self.path.stat().st_size,
            "checked": self.verdict is not None,
            "limits": [line.model_dump(mode="json") for line in self.limits],
        }


def build_recipe(recipe: Path, formats: Sequence[str] | None, progress: Progress) -> list[Built]:
    """Build every artifact of a recipe, or those of `formats`."""
    progress("read the recipe")
    planned = make_plan(recipe, weights=True)
    known = {artifact.format for artifact in planned.plan.artifacts}
    for format in formats or ():
        if format not in known:
            what = f"{recipe} has no target of the format {format!r}"
            raise InvalidInput(Problem("--target", what, suggest(format, sorted(known))))
    return build(planned, Store(), progress, formats)


def check_recipe(
    recipe: Path, devices: Sequence[str], full: bool, progress: Progress
) -> list[Verdict]:
    """Measure every artifact and judge it for `devices`; without any, for the recipe's own."""
    progress("read the recipe")
    planned = make_plan(recipe, weights=True)
    chosen = _devices(planned, devices)
    built = build(planned, Store(), progress)
    verdicts = _check(planned, built, chosen, full, progress)
    for verdict in verdicts:
        _remember(planned, verdict, chosen[verdict.device])
    return verdicts


def bundle_recipe(
    recipe: Path,
    device: str,
    out: Path,
    artifact: str | None,
    allow_unchecked: bool,
    progress: Progress,
) -> Bundled:
    """Bundle the best artifact that passed on `device`: the one nearest to full precision.

    Verdicts of an earlier check of the same artifact, budgets and device are used; what is
    missing is measured now. Raises NotPassed, with the verdicts, where nothing passed.
    """
    progress("read the recipe")
    writable(out, "--out")
    planned = make_plan(recipe, weights=True)
    chosen = _devices(planned, [device])
    (target,) = chosen.values()
    able = [a for a in planned.plan.artifacts if _targets(planned, a.format, chosen)]
    names = [each.name for each in able]
    if artifact is not None and artifact not in names:
        what = f"{recipe} makes no artifact {artifact!r} for {device}"
        raise InvalidInput(Problem("--artifact", what, suggest(artifact, names)))
    wanted = [artifact] if artifact else names
    built = {item.artifact.name: item for item in build(planned, Store(), progress, names=wanted)}
    if allow_unchecked:
        return _write(planned, built[wanted[0]], None, target, out)
    verdicts = _verdicts(planned, list(built.values()), chosen, progress)
    passed = [verdict for verdict in verdicts if verdict.exit_status == EXIT_PASS]
    if not passed:
        what = f"nothing passed on {device}, so there is nothing to ship"
        remedy = "the table says what to do next; --allow-unchecked bundles without a pass"
        raise NotPassed(verdicts, Problem(str(recipe), what, remedy))
    best = max(passed, key=lambda verdict: _nearness(verdict, built[verdict.artifact]))
    return _write(planned, built[best.artifact], best, target, out)


def _nearness(verdict: Verdict, built: Built) -> tuple[float, int]:
    """Order of preference: nearest to full precision, then smallest."""
    language = verdict.measurement.language
    if language is not None:
        return -language.divergence.kl.mean, -built.artifact.bytes
    quality = verdict.measurement.quality
    outputs = quality.outputs.values() if quality is not None else ()
    nearest = min((output.cosine_mean for output in outputs), default=float("-inf"))
    return nearest, -built.artifact.bytes


def _devices(planned: Planned, names: Sequence[str]) -> dict[str, Device]:
    if not names:
        return planned.devices
    devices = {}
    problems = []
    for name in names:
        device = planned.devices.get(name) or load_device(name)
        formats = {artifact.format for artifact in planned.plan.artifacts}
        if not formats & set(device.runtimes):
            what = f"{name} runs none of the recipe's formats: {', '.join(sorted(formats))}"
            remedy = f"it runs: {', '.join(device.runtimes)}"
            problems.append(Problem("--device", what, remedy))
        devices[device.id] = device
    if problems:
        raise InvalidInput(problems)
    return devices


def _check(
    planned: Planned,
    built: Sequence[Built],
    devices: dict[str, Device],
    full: bool,
    progress: Progress,
) -> list[Verdict]:
    """Verdicts in the order of `built`, each held against full precision in its own format."""
    from edgeq.check import Evaluation, check

    reference = planned.recipe.data.evaluation
    evaluation = None
    if reference is not None:
        evaluation = Evaluation(planned.path.parent / reference.path, reference.samples)
    verdicts: list[Verdict] = []
    for format in dict.fromkeys(item.artifact.format for item in built):
        own = [item for item in built if item.artifact.format == format]
        planned_sizes = {
            each.variant.name: each.download_bytes
            for each in planned.plan.artifacts
            if each.format == format
        }
        verdicts += check(
            {item.path: _targets(planned, format, devices) for item in own},
            build_float(planned, Store(), progress, format).path,
            here=load_device(HERE),
            budgets=planned.recipe.budgets,
            evaluation=evaluation,
            full=full,
            alternatives={
                **planned_sizes,
                **{item.artifact.variant: item.artifact.bytes for item in own},
            },
            progress=progress,
            workload=planned.recipe.workload,
        )
    return verdicts


def _targets(planned: Planned, format: Format, devices: dict[str, Device]) -> list[Device]:
    """Those of `devices` that shall run a format: a recipe's own only where a target says so."""
    own, elsewhere = planned.targets[format], planned.devices
    return [
        device
        for id, device in devices.items()
        if format in device.runtimes and (id in own or id not in elsewhere)
    ]


def _verdicts(
    planned: Planned, built: Sequence[Built], devices: dict[str, Device], progress: Progress
) -> list[Verdict]:
    """Remembered verdicts where there are some, new ones otherwise, in the order of `built`."""
    (device,) = devices.values()
    known = {item.path: _recall(planned, item, device) for item in built}
    missing = [item for item in built if known[item.path] is None]
    if missing:
        fresh = _check(planned, missing, devices, False, progress)
        for item, verdict in zip(missing, fresh, strict=True):
            _remember(planned, verdict, device)
            known[item.path] = verdict
    return [verdict for verdict in known.values() if verdict is not None]


def _verdict_path(planned: Planned, artifact_sha256: str, device: Device) -> Path:
    """Where a verdict is remembered: everything but the weather decides the name."""
    reference = planned.recipe.data.evaluation
    evaluation = None
    if reference is not None:
        path = planned.path.parent / reference.path
        evaluation = [canonical.sha256_of_file(path), reference.samples]
    key = {
        "artifact": artifact_sha256,
        "device": device.model_dump(mode="json"),
        "here": load_device(HERE).model_dump(mode="json"),
        "budgets": planned.recipe.budgets.model_dump(mode="json"),
        "workload": planned.recipe.workload.model_dump(mode="json"),
        "evaluation": evaluation,
        "runtime": os.environ.get("EDGEQ_LLAMA"),
        "code": code_version(),
    }
    return Store().root / "verdict" / f"{canonical.sha256_of(key)}.json"


def _remember(planned: Planned, verdict: Verdict, device: Device) -> None:
    path = _verdict_path(planned, verdict.artifact_sha256, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # another check may write it too
    partial.write_text(canonical.to_json(verdict.model_dump(mode="json")), encoding="utf-8")
    partial.replace(path)


def _recall(planned: Planned, built: Built, device: Device) -> Verdict | None:
    sha256 = canonical.sha256_of_file(built.path / ARTIFACT_FILE)
    path = _verdict_path(planned, sha256, device)
    try:
        return Verdict.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(
    planned: Planned, built: Built, verdict: Verdict | None, device: Device, out: Path
) -> Bundled:
    plans = {each.name: each for each in planned.plan.artifacts}
    cache = plans[built.artifact.name].cache_bytes
    limits = sized(built.artifact, device, verdict, cache)
    licence_file = next(iter(sorted(planned.model.located.path.glob("LICENSE*"))), None)
    text = None
    if licence_file is not None:
        text = licence_file.read_text(encoding="utf-8", errors="replace")
    write_bundle(
        built.path,
        out,
        recipe_text=planned.path.read_text(encoding="utf-8"),
        verdicts=[verdict.model_dump(mode="json")] if verdict else [],
        licence=planned.plan.licence,
        licence_text=text,
        unchecked=verdict is None,
        limits=limits,
    )
    return Bundled(out, built.artifact.name, verdict, limits)
