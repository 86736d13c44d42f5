"""Checks beyond a recipe's schema: data exist, and its parts are consistent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgeq.core.errors import Problem
from edgeq.core.tasks import task_of
from edgeq.core.tasks.task import exporting
from edgeq.core.validation_messages import Location, suggest, suggest_near
from edgeq.core.yamlfile import Document
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.presets import methods_of
from edgeq.quantize.spec import QuantizeSpec, VariantSpec
from edgeq.quantize.storage import STORAGES, number_format_of, storage
from edgeq.recipe.checks.budgets import check_budgets
from edgeq.recipe.checks.coreml import check_coreml
from edgeq.recipe.checks.data import check_data
from edgeq.recipe.checks.fit import check_fits
from edgeq.recipe.checks.interface import check_interface
from edgeq.recipe.checks.recover import check_recover

if TYPE_CHECKING:
    from edgeq.quantize.presets import Variant
    from edgeq.quantize.spec import Intent, Rule
    from edgeq.recipe.schema import Recipe


def check(recipe: Recipe, document: Document) -> list[Problem]:
    """Every inconsistency, each with its place in the file."""
    return [
        *_check_source(recipe, document),
        *_check_state(recipe, document),
        *check_interface(recipe, document),
        *_check_variants(recipe, document),
        *_check_rules(recipe, document),
        *_check_targets(recipe, document),
        *check_budgets(recipe, document),
        *check_coreml(recipe, document),
        *check_fits(recipe, document),
        *check_recover(recipe, document),
        *check_data(recipe, document),
    ]


def _check_state(recipe: Recipe, document: Document) -> Iterator[Problem]:
    where = document.place(("model", "state"))
    if recipe.model.state and task_of(recipe.model.task).takes != "arrays":
        what = f"model.state: the task {recipe.model.task!r} has no steps of arrays"
        yield Problem(where, what, "remove 'state', or write 'task: tensor'")
    others = {target.format for target in recipe.targets} - {"onnx"}
    if recipe.model.state and others:
        what = f"model.state: a state is carried on in ONNX files only, not {sorted(others)[0]!r}"
        yield Problem(where, what, "give that target a recipe of its own, without 'state'")


def _check_source(recipe: Recipe, document: Document) -> Iterator[Problem]:
    if document.is_assumed(("model", "source")) or document.is_assumed(("model", "task")):
        return
    source, task = recipe.model.source, recipe.model.task
    where = document.place(("model", "source"))
    takes_file = task_of(task).takes_arrays and not task_of(task).auto_class
    if takes_file and source.kind != "file":
        what = f"model.source: the task {task!r} requires an .onnx file, not {str(source)!r}"
        remedy = "give a path that ends in .onnx, or choose another task"
        if task_of(task).takes_files and source.kind == "directory":
            remedy = exporting(source.value, task_of(task).optimum_task)
        yield Problem(where, what, remedy)
    elif source.kind == "file" and task_of(task).generates:
        what = f"model.source: an .onnx file has no tokenizer, which {task} needs"
        yield Problem(where, what, "give the model's directory, or write 'task: tensor'")
    elif source.is_path:
        path = document.path.parent / source.value
        noun = "directory" if source.kind == "directory" else "file"
        if not (path.is_dir() if source.kind == "directory" else path.is_file()):
            what = f"model.source: no {noun} {path}"
            names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
            near = suggest_near(path.name, names)
            remedy = "paths are relative to the recipe; other sources: package:, hub:"
            yield Problem(where, what, near or remedy)


def _check_variants(recipe: Recipe, document: Document) -> Iterator[Problem]:
    formats = list(dict.fromkeys(target.format for target in recipe.targets))
    task = recipe.model.task
    has_data = recipe.data.calibration or document.is_assumed(("data", "calibration"))
    has_importance = has_data or recipe.data.importance
    seen: dict[str, set[str]] = {format: set() for format in formats}
    choices = [recipe.quantize.choices(format, task) for format in formats]
    for index, meanings in enumerate(zip(*choices, strict=True)):
        location: Location = ("quantize", "default", index)
        where, name = document.place(location), document.name(location)
        if document.is_assumed(location) or document.is_assumed(("targets",)):
            continue
        stored = {f: v for f, v in zip(formats, meanings, strict=True) if v is not None}
        if not stored and not any(
            document.is_assumed(("targets", i, "format")) for i in range(len(recipe.targets))
        ):
            what = f"{name}: no target can store it: {', '.join(formats)} cannot"
            yield Problem(where, what, _other_target(recipe.quantize.default[index], formats, task))
        for format, variant in stored.items():
            needs_text = variant.recover or not rounding_method(variant.method).takes_imatrix
            given = has_data if needs_text else has_importance
            yield from _check_variant(variant, task, where, name, seen[format], given)


def _other_target(choice: str | VariantSpec, formats: Sequence[str], task: str) -> str:
    """The remedy if none of `formats` can store an entry of quantize.default."""
    titles = " and ".join(storage(format).title for format in formats)
    if _recovers(choice) and not any(storage(each).takes_adapter for each in formats):
        return f"{titles} packages have no adapter: remove 'recover', or add a target"
    if _is_dynamic(choice) and all(number_format_of("int8-static", each, task) for each in formats):
        return (
            f"{titles} has no dynamic ranges; write 'int8-static', or 'int8', which quantizes "
            f"only the weights"
        )
    spec = QuantizeSpec(default=(choice,))
    able = [format for format in STORAGES if spec.choices(format, task) != (None,)]
    if not able:
        return f"choose another: {storage(formats[0]).int8(task_of(task))} fits"
    return f"add a target: {{format: {able[0]}, devices: [...]}}"


def _recovers(choice: str | VariantSpec) -> bool:
    return not isinstance(choice, str) and choice.recover is not None


def _is_dynamic(choice: str | VariantSpec) -> bool:
    word = choice if isinstance(choice, str) else choice.activations
    return word in ("int8-dynamic", "dynamic-uint8")


def _check_variant(
    variant: Variant, task: str, where: str, name: str, seen: set[str], has_data: object
) -> Iterator[Problem]:
    if variant.name in seen:
        what = f"{name}: the variant {variant.name!r} is listed twice"
        yield Problem(where, what, "remove one, or give it a 'name' and other settings")
    seen.add(variant.name)
    if task_of(task).generates and variant.activations != "float32":
        what = f"{name}: {variant.name!r} quantizes activations, unsupported for language models"
        yield Problem(where, what, "write 'int8-b32', which quantizes only the weights")
    elif rounding_method(variant.method).trains and task_of(task).takes_arrays:
        what = f"{name}: {variant.method!r} trains a model's layers, and an .onnx file has none"
        yield Problem(where, what, "write 'method: gptq'")
    elif variant.needs_calibration and not has_data:
        why = "fixes ranges from" if variant.ranges else f"rounds by {variant.method!r} with"
        why = "is recovered on" if variant.recover else why
        what = f"{name}: {variant.name!r} {why} calibration data, and there are none"
        other = ""
        if NEAREST.name in methods_of(variant.weights) and not (variant.ranges or variant.recover):
            other = f", or write {{weights: {variant.weights}, method: {NEAREST.name}}}"
        yield Problem(where, what, f"add data.calibration: {{path: ...}}{other}")


def _check_rules(recipe: Recipe, document: Document) -> Iterator[Problem]:
    task = recipe.model.task
    formats = {target.format for target in recipe.targets}
    spec = recipe.quantize
    intents = [
        intent
        for f in sorted(formats)
        for intent in (*spec.intents(f, task), *spec.pending(f, task))
    ]
    names = list(dict.fromkeys(intent.variant.name for intent in intents))
    # An invalid default cannot tell which names would exist.
    names_are_known = not document.is_assumed(("quantize", "default"))
    rules = recipe.quantize.rules
    for index, rule in enumerate(rules):
        for position, name in enumerate(rule.variants or ()):
            if name not in names and names_are_known:
                location: Location = ("quantize", "rules", index, "variants", position)
                what = f"{document.name(location)}: no variant {name!r} in quantize.default"
                yield Problem(document.place(location), what, suggest(name, names))
        if not document.is_assumed(("quantize", "rules", index, "use")):
            yield from _check_use(rule, index, intents, document)
        for earlier in range(index):
            if _decides_all_of(rules[earlier], rule) and not any(
                document.is_assumed(("quantize", "rules", either, key))
                for either in (earlier, index)
                for key in ("match", "variants")
            ):
                location = ("quantize", "rules", index)
                first = document.place(("quantize", "rules", earlier))
                what = f"{document.name(location)}: {rule.match!r} is decided by an earlier rule"
                remedy = f"the first match wins; remove this one, or the one at {first}"
                yield Problem(document.place(location), what, remedy)
                break


def _check_use(
    rule: Rule, index: int, intents: list[Intent], document: Document
) -> Iterator[Problem]:
    """A rule must not ask for a number format that an artifact's file format lacks."""
    covered = [intent for intent in intents if rule.covers(intent.variant.name)]
    lacking = [i for i in covered if rule.number_format(i.format, i.task) is None]
    if not lacking:
        return
    location: Location = ("quantize", "rules", index, "use")
    what = f"{document.name(location)}: {lacking[0].name} cannot store {rule.use!r}"
    others = [i.variant.name for i in covered if i not in lacking]
    others = [name for name in others if name not in {i.variant.name for i in lacking}]
    remedy = "choose a number format that every target has, e.g. int8-b32"
    if others:
        remedy = f"add 'variants: [{', '.join(dict.fromkeys(others))}]' to the rule, or {remedy}"
    yield Problem(document.place(location), what, remedy)


def _decides_all_of(earlier: Rule, later: Rule) -> bool:
    if earlier.match not in (later.match, "*"):
        return False
    return earlier.variants is None or (
        later.variants is not None and set(later.variants) <= set(earlier.variants)
    )


def _check_targets(recipe: Recipe, document: Document) -> Iterator[Problem]:
    seen: set[tuple[str, str]] = set()
    for index, target in enumerate(recipe.targets):
        if document.is_assumed(("targets", index, "format")):
            continue
        yield from _check_runtime(recipe, document, index)
        for position, device in enumerate(target.devices):
            if (target.format, device) in seen:
                location: Location = ("targets", index, "devices", position)
                what = f"{document.name(location)}: {device!r} is listed twice for {target.format}"
                yield Problem(document.place(location), what, "remove one of them")
            seen.add((target.format, device))
    yield from _check_use_of_targets(recipe, document)


def _check_runtime(recipe: Recipe, document: Document, index: int) -> Iterator[Problem]:
    """A file format whose runtime does not support the task."""
    own, task = storage(recipe.targets[index].format), task_of(recipe.model.task)
    location: Location = ("targets", index, "format")
    if recipe.model.source.kind == "file" and not own.takes_graph and own.serves(task):
        what = f"{document.name(location)}: {own.title} files are written from a model directory"
        yield Problem(document.place(location), what, "give its directory as model.source")
    if own.serves(task) or document.is_assumed(("model", "task")):
        return
    what = f"{document.name(location)}: no runtime for {own.title} files supports {task.name!r}"
    able = ", ".join(each.name for each in STORAGES.values() if each.serves(task))
    yield Problem(document.place(location), what, f"choose one of: {able}")


def _check_use_of_targets(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """A target that would get no artifact, although others get some."""
    spec, task = recipe.quantize, recipe.model.task
    formats = [target.format for target in recipe.targets]
    parts = [("quantize", "default"), *(("targets", i, "format") for i in range(len(formats)))]
    if spec.fit or not spec.default or any(map(document.is_assumed, parts)):
        return
    has_choice = {format: any(spec.choices(format, task)) for format in formats}
    for index, format in enumerate(formats):
        location: Location = ("targets", index)
        if not has_choice[format] and any(has_choice.values()):
            what = (
                f"{document.name(location)}: nothing in quantize.default can be stored in {format}"
            )
            remedy = "remove the target, or add to quantize.default what it supports, e.g. 'int8'"
            yield Problem(document.place(location), what, remedy)
