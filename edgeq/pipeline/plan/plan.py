"""Recipe × devices → Plan: every decision and every size, made without loading a weight."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeq.core.errors import EdgeqError, InvalidInput, Problem
from edgeq.core.validation_messages import suggest_near
from edgeq.core.yamlfile import Document, by_place
from edgeq.devices.catalogue import Device, load_device
from edgeq.devices.compute_unit_hints import advice_for
from edgeq.formats.file_format import TensorPlan
from edgeq.formats.registry import file_format
from edgeq.models.model import DescribedModel
from edgeq.pipeline.plan.coreml import activations_advice, compute_of, target_of, too_old
from edgeq.pipeline.plan.described import described, source_notes
from edgeq.pipeline.plan.float16 import float16_notes
from edgeq.pipeline.plan.images import misfits
from edgeq.pipeline.plan.interface import with_interface
from edgeq.pipeline.plan.kv_cache import cached, unfit_cache, with_cache
from edgeq.pipeline.plan.prospect import Prospect
from edgeq.pipeline.plan.records import ArtifactPlan, Plan
from edgeq.pipeline.plan.releases import without_runtime
from edgeq.pipeline.plan.requirements import missing, packages
from edgeq.pipeline.plan.tensors import bytes_by_number_format, planned_tensors
from edgeq.pipeline.plan.unquantized import unquantized
from edgeq.pipeline.plan.unread import unfit_for_file
from edgeq.pipeline.proof.original import reference_of
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format
from edgeq.recipe.load import load_recipe
from edgeq.recipe.schema import Recipe


@dataclass(frozen=True)
class Planned:
    """A plan with the objects that a build needs.

    targets: by file format, the devices of its targets by id. prospects: possible outcomes of
    budgets, by the artifact's name. impossible: artifacts that cannot be built, some of several.
    """

    path: Path
    recipe: Recipe
    document: Document
    targets: Mapping[Format, Mapping[str, Device]]
    model: DescribedModel
    plan: Plan
    prospects: Mapping[str, Prospect] = field(default_factory=dict)
    impossible: Mapping[str, Problem] = field(default_factory=dict)

    def settled(self, intents: Iterable[Intent]) -> Planned:
        """The plan with the chosen formats of pending artifacts filled in."""
        became = {intent.name: intent for intent in intents}
        apple = _of_releases(self.targets)
        artifacts = tuple(
            plan_artifact(
                self.recipe,
                self.model,
                became[own.name],
                self.targets[own.format],
                apple,
                own.advice,
            )
            if own.name in became
            else own
            for own in self.plan.artifacts
        )
        return replace(self, plan=self.plan.model_copy(update={"artifacts": artifacts}))

    def cached(self, intent: Intent) -> Intent:
        """The intent with the type of KV cache that the recipe asks for."""
        if self.recipe.workload.kv is None:
            return intent
        devices, apple = self.targets.get(intent.format, {}), _of_releases(self.targets)
        return cached(intent, plan_artifact(self.recipe, self.model, intent, devices, apple))

    def refuses(self, format: Format) -> bool:
        """Whether no artifact of a file format can be built."""
        return all(a.name in self.impossible for a in self.plan.artifacts if a.format == format)

    @property
    def devices(self) -> dict[str, Device]:
        """Every device of the recipe, by its id."""
        return {id: device for own in self.targets.values() for id, device in own.items()}


def make_plan(path: Path, *, weights: bool = False) -> Planned:
    """Resolve the recipe at `path`; with `weights`, its model is downloaded whole.

    Raises InvalidInput with every independent problem of recipe, devices, data and model at once.
    """
    recipe, document, problems = load_recipe(path)
    if recipe is None:
        raise InvalidInput(problems)
    devices, names, device_problems = _devices(recipe, document, path.parent)
    problems += device_problems
    recipe = _with_ids(recipe, names)
    where = document.place(("model", "source"))
    model: DescribedModel | None = None
    if not document.is_assumed(("model", "source")) and not _names_place(problems, where):
        try:
            model = described(
                recipe.model.source, recipe.model.task, path.parent, where, weights=weights
            )
            model = with_interface(model, recipe.model, document)
            problems += _unmatched_rules(recipe, document, model)
            problems += _untrained_context(recipe, document, model)
            problems += unfit_cache(recipe, document, model)
            problems += unfit_for_file(recipe, document, model)
        except EdgeqError as error:
            if not isinstance(error, InvalidInput) and not problems:
                raise
            problems += error.problems
    if problems or model is None:
        raise InvalidInput(by_place(problems))
    plan, refused = _plan(recipe, model, devices)
    packages = {a.name: a.tensors for a in plan.artifacts if file_format(a.format).has_releases}
    problems += too_old(recipe, document, packages, _of_releases(devices))
    problems += without_runtime(recipe, document, devices)
    able = [artifact for artifact in plan.artifacts if artifact.name not in refused]
    impossible = {**refused, **dict(unquantized(recipe, document, model, able))}
    if len(impossible) == len(plan.artifacts):
        problems += impossible.values()
    if packages:
        problems += misfits(recipe, document, model.graph)
    if problems:
        raise InvalidInput(by_place(problems))
    return Planned(path, recipe, document, devices, model, plan, impossible=impossible)


def _of_releases(targets: Mapping[Format, Mapping[str, Device]]) -> dict[str, Device]:
    """The devices whose system's release decides what their files can hold, by id."""
    return {
        id: device
        for format, devices in targets.items()
        if file_format(format).has_releases
        for id, device in devices.items()
    }


def _plan(
    recipe: Recipe, model: DescribedModel, targets: Mapping[Format, Mapping[str, Device]]
) -> tuple[Plan, dict[str, Problem]]:
    """The plan, and the problem of each artifact whose file format cannot hold the model.

    Raises InvalidInput if none can.
    """
    artifacts: list[ArtifactPlan] = []
    intents: list[Intent] = []
    refused: dict[str, Problem] = {}
    refusals: list[InvalidInput] = []
    for format, devices in targets.items():
        variants = recipe.quantize.intents(format, recipe.model.task)
        fits = recipe.quantize.pending(format, recipe.model.task)
        try:
            artifacts += list(_of_format(recipe, model, format, targets))
        except InvalidInput as refusal:
            refusals.append(refusal)
            for intent in (*variants, *fits):
                refused[intent.name] = _whole(refusal.problems, format)
                artifacts.append(_pending(intent, devices, "cannot be built: see the error below"))
        else:
            intents += [*variants, *fits]
    if len(refusals) == len(targets):
        raise InvalidInput(problem for refusal in refusals for problem in refusal.problems)
    wanted = packages(intents, fits=bool(recipe.quantize.fit))
    plan = Plan(
        recipe=recipe.name,
        source=str(recipe.model.source),
        revision=model.located.revision,
        licence=recipe.model.licence or model.licence,
        artifacts=tuple(artifacts),
        size_budget=recipe.budgets.size.download,
        missing_packages=missing(wanted),
        extras=tuple(wanted),
        reference=reference_of(model),
    )
    return plan, refused


def _of_format(
    recipe: Recipe,
    model: DescribedModel,
    format: Format,
    targets: Mapping[Format, Mapping[str, Device]],
) -> Iterator[ArtifactPlan]:
    """The artifacts of a file format. Raises InvalidInput if it cannot hold the model."""
    devices, apple = targets[format], _of_releases(targets)
    notes = (*source_notes(model), *file_format(format).notes(model))
    for intent in recipe.quantize.intents(format, recipe.model.task):
        yield plan_artifact(recipe, model, intent, devices, apple, notes)
    fits = recipe.quantize.pending(format, recipe.model.task)
    for fit, intent in zip(recipe.quantize.fit, fits, strict=True):
        why = "the sensitivity of its tensors is measured when it is built"
        pending = _pending(intent, devices, why, fit.size or 0, notes)
        yield with_cache(pending, recipe, model, devices)


def _pending(
    intent: Intent,
    devices: Iterable[str],
    why: str,
    download_bytes: int = 0,
    notes: tuple[str, ...] = (),
) -> ArtifactPlan:
    """An artifact whose tensors are not known."""
    return ArtifactPlan(
        name=intent.name,
        format=intent.format,
        variant=intent.variant,
        tensors=(),
        weight_bytes=0,
        download_bytes=download_bytes,
        devices=tuple(devices),
        pending=why,
        advice=notes,
    )


def _whole(problems: Sequence[Problem], format: Format) -> Problem:
    """Why a file format cannot hold the model, as one problem of several formats."""
    what = "; ".join(problem.what for problem in problems)
    return Problem(problems[0].where, what, f"remove the target 'format: {format}'")


def plan_artifact(
    recipe: Recipe,
    model: DescribedModel,
    intent: Intent,
    devices: Mapping[str, Device],
    apple: Mapping[str, Device],
    notes: tuple[str, ...] = (),
) -> ArtifactPlan:
    """One artifact of a recipe's model.

    devices: of its targets, by id. apple: those of Apple's formats, by id. notes: of its file
    format, on this model.
    """
    tensors = tuple(planned_tensors(model, intent, compute_of(recipe, intent)))
    is_package = file_format(intent.format).has_releases
    first = file_format(intent.format).first_release
    oldest = str(target_of(recipe, tensors)[0] if is_package else first) if first else None
    weights = sum(tensor.bytes for tensor in tensors)
    if first is not None:
        section = file_format(intent.format).section
        patterns = recipe.coreml.float32 if is_package else None
        compute = compute_of(recipe, intent)
        notes = (*notes, *float16_notes(model, compute, section, patterns))
    plan = ArtifactPlan(
        name=intent.name,
        format=intent.format,
        variant=intent.variant,
        tensors=tensors,
        weight_bytes=weights,
        download_bytes=file_format(intent.format).file_bytes(
            model, intent, recipe.workload.context, weights, len(tensors)
        ),
        deployment_target=oldest,
        devices=tuple(devices),
        advice=(*notes, *(_advice(recipe, intent, tensors, apple) if is_package else ())),
    )
    return with_cache(plan, recipe, model, devices)


def _advice(
    recipe: Recipe,
    intent: Intent,
    tensors: tuple[TensorPlan, ...],
    devices: Mapping[str, Device],
) -> tuple[str, ...]:
    number_formats, float32 = bytes_by_number_format(tensors), recipe.coreml.float32
    compute = compute_of(recipe, intent)
    lines = [advice_for(number_formats, device, compute, float32) for device in devices.values()]
    activations = activations_advice(intent.variant)
    return (*(line for each in lines for line in each), *([activations] if activations else []))


def _with_ids(recipe: Recipe, ids: Mapping[str, str]) -> Recipe:
    """The recipe with the ids of devices that it names by their files."""
    targets = tuple(
        target.model_copy(update={"devices": tuple(ids.get(name, name) for name in target.devices)})
        for target in recipe.targets
    )
    return recipe.model_copy(update={"targets": targets})


def _devices(
    recipe: Recipe, document: Document, base: Path
) -> tuple[dict[Format, dict[str, Device]], dict[str, str], list[Problem]]:
    """The devices of each format's targets, by id; and ids by the recipe's names."""
    found: dict[Format, dict[str, Device]] = {}
    ids: dict[str, str] = {}
    problems: list[Problem] = []
    for index, target in enumerate(recipe.targets):
        for position, name in enumerate(target.devices):
            location = ("targets", index, "devices", position)
            if document.is_assumed(location):
                continue
            where = document.place(location)
            try:
                device = load_device(name, base)
            except InvalidInput as error:
                problems += [
                    # For a device file, the place within that file counts too.
                    Problem(where, p.what if p.where == name else f"{p.where}: {p.what}", p.remedy)
                    for p in error.problems
                ]
                continue
            ids[name] = device.id
            found.setdefault(target.format, {})[device.id] = device
            if target.format not in device.runtimes:
                what = f"{name} cannot run the format {target.format!r}"
                remedy = f"it runs: {', '.join(device.runtimes)}"
                problems.append(Problem(where, what, remedy))
    return found, ids, problems


def _unmatched_rules(
    recipe: Recipe, document: Document, model: DescribedModel
) -> Iterator[Problem]:
    for index, rule in enumerate(recipe.quantize.rules):
        location = ("quantize", "rules", index, "match")
        if document.is_assumed(location):
            continue
        if not any(fnmatch.fnmatchcase(name, rule.match) for name in model.tensors):
            what = f"quantize.rules[{index}]: {rule.match!r} matches no tensor of the model"
            names = list(model.tensors)
            near = suggest_near(rule.match, names)
            middle = names[len(names) // 2]
            remedy = f"rules take the names of the model's own files, e.g. {middle!r}"
            yield Problem(document.place(location), what, near or remedy)


def _untrained_context(
    recipe: Recipe, document: Document, model: DescribedModel
) -> Iterator[Problem]:
    asked = recipe.workload.context
    if model.decoder is not None and asked > model.decoder.context:
        trained = model.decoder.context
        what = f"workload.context: {asked} positions, and the model was trained for only {trained}"
        remedy = f"write 'context: {trained}' or less"
        if recipe.workload.prompt + recipe.workload.generate > trained:
            remedy += f", with 'prompt' and 'generate' of at most {trained} tokens together"
        yield Problem(document.place(("workload", "context")), what, remedy)


def _names_place(problems: list[Problem], where: str) -> bool:
    return any(problem.where == where for problem in problems)
