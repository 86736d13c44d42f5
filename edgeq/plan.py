"""Recipe × devices → Plan: every decision and every size, made without loading a weight."""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from edgeq.artifact import Frozen
from edgeq.device import Device, load_device
from edgeq.errors import EdgeqError, InvalidInput, Problem
from edgeq.models.model import DescribedModel, describe
from edgeq.quantize.decide import Decision, decide, stored_bytes
from edgeq.quantize.presets import Variant
from edgeq.quantize.spec import Format, QuantizeSpec
from edgeq.recipe import Recipe, load_recipe
from edgeq.wording import suggest
from edgeq.yamlfile import Document, by_place

# The graph itself, beside its weights: seen between 40 and 60 KiB for encoders of 6 to 12 layers.
_GRAPH_BYTES_PER_TENSOR = 600
_BUILD_PACKAGES = ("onnx", "onnx_ir", "optimum", "torch", "transformers", "safetensors")


class TensorPlan(Frozen):
    """What becomes of one weight; `bytes` is what its codes and scales take in the file."""

    name: str
    shape: tuple[int, ...]
    grid: str
    method: str
    reason: str
    bytes: int


class ArtifactPlan(Frozen):
    """One artifact of the plan. `download_bytes` is estimated: only the graph is not known."""

    name: str
    format: str
    variant: Variant
    tensors: tuple[TensorPlan, ...]
    weight_bytes: int
    download_bytes: int
    devices: tuple[str, ...]


class Plan(Frozen):
    """What a build of a recipe would do."""

    recipe: str
    source: str
    revision: str | None
    licence: str | None
    artifacts: tuple[ArtifactPlan, ...]
    missing_packages: tuple[str, ...]


class Planned:
    """A plan with the objects that a build goes on with."""

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        document: Document,
        devices: dict[str, Device],
        model: DescribedModel,
        plan: Plan,
    ) -> None:
        self.path = path
        self.recipe = recipe
        self.document = document
        self.devices = devices
        self.model = model
        self.plan = plan


def make_plan(path: Path, *, weights: bool = False) -> Planned:
    """Resolve the recipe at `path`; with `weights`, its model is fetched whole.

    Raises InvalidInput with every independent problem of recipe, devices, data and model at once.
    """
    recipe, document, problems = load_recipe(path)
    if recipe is None:
        raise InvalidInput(problems)
    devices, device_problems = _devices(recipe, document)
    problems += device_problems
    where = document.place(("model", "source"))
    model: DescribedModel | None = None
    if not document.is_assumed(("model", "source")) and not _names_place(problems, where):
        try:
            model = describe(recipe, path, where, weights=weights)
            problems += _unmatched_rules(recipe, document, model)
        except EdgeqError as error:
            if not isinstance(error, InvalidInput) and not problems:
                raise
            problems += error.problems
    if problems or model is None:
        raise InvalidInput(by_place(problems))
    return Planned(path, recipe, document, devices, model, _plan(recipe, model))


def _plan(recipe: Recipe, model: DescribedModel) -> Plan:
    artifacts = []
    devices: dict[Format, tuple[str, ...]] = {}
    for target in recipe.targets:  # more than one may ask for the same files
        devices[target.format] = (*devices.get(target.format, ()), *target.devices)
    for format, names in devices.items():
        for variant in recipe.quantize.variants(format):
            tensors = tuple(_tensors(model, variant, recipe.quantize))
            weights = sum(tensor.bytes for tensor in tensors)
            tokenizer = model.directory.tokenizer.stat().st_size if model.directory else 0
            graph = _GRAPH_BYTES_PER_TENSOR * len(tensors)
            artifacts.append(
                ArtifactPlan(
                    name=f"{format}-{variant.name}",
                    format=format,
                    variant=variant,
                    tensors=tensors,
                    weight_bytes=weights,
                    download_bytes=weights + tokenizer + graph,
                    devices=names,
                )
            )
    missing = tuple(name for name in _BUILD_PACKAGES if importlib.util.find_spec(name) is None)
    return Plan(
        recipe=recipe.name,
        source=str(recipe.model.source),
        revision=model.located.revision,
        licence=recipe.model.licence or model.licence,
        artifacts=tuple(artifacts),
        missing_packages=missing,
    )


def _tensors(model: DescribedModel, variant: Variant, spec: QuantizeSpec) -> Iterator[TensorPlan]:
    for name, shape in model.tensors.items():
        decision = _decide(model, name, shape, variant, spec)
        yield TensorPlan(
            name=name,
            shape=shape,
            grid=decision.grid,
            method=decision.method,
            reason=decision.reason,
            bytes=stored_bytes(decision, shape, is_table=model.is_table(name)),
        )


def _decide(
    model: DescribedModel, name: str, shape: tuple[int, ...], variant: Variant, spec: QuantizeSpec
) -> Decision:
    """By name alone; where operators are known, only what they can carry out."""
    if model.weights is None:
        return decide(name, shape, variant, spec)
    from edgeq.export.onnx_weights import settle

    return settle(model.weights[name], lambda name, shape: decide(name, shape, variant, spec))


def _devices(recipe: Recipe, document: Document) -> tuple[dict[str, Device], list[Problem]]:
    found: dict[str, Device] = {}
    problems: list[Problem] = []
    for index, target in enumerate(recipe.targets):
        for position, name in enumerate(target.devices):
            location = ("targets", index, "devices", position)
            if document.is_assumed(location):
                continue
            where = document.place(location)
            try:
                device = load_device(name)
            except InvalidInput as error:
                problems += [
                    # In a device's own file, the place there counts too.
                    Problem(where, p.what if p.where == name else f"{p.where}: {p.what}", p.remedy)
                    for p in error.problems
                ]
                continue
            found[device.id] = device
            if target.format not in device.runtimes:
                what = f"{name} cannot run the format {target.format!r}"
                remedy = f"it runs: {', '.join(device.runtimes)}"
                problems.append(Problem(where, what, remedy))
    return found, problems


def _unmatched_rules(
    recipe: Recipe, document: Document, model: DescribedModel
) -> Iterator[Problem]:
    for index, rule in enumerate(recipe.quantize.rules):
        location = ("quantize", "rules", index, "match")
        if document.is_assumed(location):
            continue
        if not any(fnmatch.fnmatchcase(name, rule.match) for name in model.tensors):
            what = f"quantize.rules[{index}]: {rule.match!r} matches no tensor of the model"
            yield Problem(document.place(location), what, suggest(rule.match, list(model.tensors)))


def _names_place(problems: list[Problem], where: str) -> bool:
    return any(problem.where == where for problem in problems)
