"""What a schema cannot say about a recipe: data that is there, and parts that fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.calibration import data
from edgeq.errors import InvalidInput, Problem
from edgeq.wording import Location, suggest, suggest_near
from edgeq.yamlfile import Document

if TYPE_CHECKING:
    from edgeq.quantize.spec import Rule
    from edgeq.recipe import Recipe

_MEASURED = {"sentence-embedding": ("cosine", "spearman"), "tensor": ("error", "top1")}
_SUFFIXES = {"sentence-embedding": data.TEXT_SUFFIXES, "tensor": data.ARRAY_SUFFIXES}
_RELATIVE = "paths are relative to the recipe"


def check(recipe: Recipe, document: Document) -> list[Problem]:
    """Every problem of meaning, each with its place in the file. Reads the data sets, once each."""
    problems = [
        *_check_source(recipe, document),
        *_check_variants(recipe, document),
        *_check_rules(recipe, document),
        *_check_targets(recipe, document),
        *_check_budgets(recipe, document),
    ]
    found = _check_data_files(recipe, document)
    return problems + (found or _check_overlap(recipe, document))


def _check_source(recipe: Recipe, document: Document) -> Iterator[Problem]:
    if document.is_assumed(("model", "source")) or document.is_assumed(("model", "task")):
        return
    source, task = recipe.model.source, recipe.model.task
    where = document.place(("model", "source"))
    if task == "tensor" and source.kind != "file":
        what = f"model.source: the task 'tensor' takes an .onnx file, not {str(source)!r}"
        yield Problem(where, what, "give a path that ends in .onnx, or choose another task")
    elif task == "sentence-embedding" and source.kind == "file":
        what = "model.source: an .onnx file has no tokenizer, which sentence-embedding needs"
        yield Problem(where, what, "give the model's directory, or write 'task: tensor'")
    elif source.kind in ("file", "directory"):
        path = document.path.parent / source.value
        if not (path.is_file() if source.kind == "file" else path.is_dir()):
            what = f"model.source: no {source.kind} {path}"
            names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
            near = suggest_near(path.name, names)
            yield Problem(where, what, near or f"{_RELATIVE}; other sources: package:, hub:")


def _check_variants(recipe: Recipe, document: Document) -> Iterator[Problem]:
    seen: set[str] = set()
    has_data = recipe.data.calibration or document.is_assumed(("data", "calibration"))
    for index, variant in enumerate(recipe.quantize.variants("onnx")):
        location: Location = ("quantize", "default", index)
        where, name = document.place(location), document.name(location)
        if document.is_assumed(location):
            continue
        if variant.name in seen:
            what = f"{name}: the variant {variant.name!r} is there twice"
            yield Problem(where, what, "remove one, or give it a 'name' and other settings")
        seen.add(variant.name)
        if variant.needs_calibration and not has_data:
            why = "fixes ranges from" if variant.ranges else f"rounds by {variant.method!r} with"
            what = f"{name}: {variant.name!r} {why} calibration data, and there is none"
            yield Problem(where, what, "add data.calibration: {path: ...}")


def _check_rules(recipe: Recipe, document: Document) -> Iterator[Problem]:
    names = [variant.name for variant in recipe.quantize.variants("onnx")]
    # A default that is wrong itself cannot tell which names there would be.
    names_are_known = not document.is_assumed(("quantize", "default"))
    rules = recipe.quantize.rules
    for index, rule in enumerate(rules):
        for position, name in enumerate(rule.variants or ()):
            if name not in names and names_are_known:
                location: Location = ("quantize", "rules", index, "variants", position)
                what = f"{document.name(location)}: no variant {name!r} in quantize.default"
                yield Problem(document.place(location), what, suggest(name, names))
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
        for position, device in enumerate(target.devices):
            if (target.format, device) in seen:
                location: Location = ("targets", index, "devices", position)
                what = f"{document.name(location)}: {device!r} is there twice for {target.format}"
                yield Problem(document.place(location), what, "remove one of them")
            seen.add((target.format, device))


def _check_budgets(recipe: Recipe, document: Document) -> Iterator[Problem]:
    if document.is_assumed(("model", "task")):
        return
    task = recipe.model.task
    has_data = recipe.data.evaluation or document.is_assumed(("data", "evaluation"))
    for key, bound in recipe.budgets.quality.model_dump().items():
        where = document.place(("budgets", "quality", key), key=True)
        name = f"budgets.quality.{key}"
        if bound is None:
            continue
        if key not in _MEASURED[task]:
            what = f"{name}: is not measured for the task {task!r}"
            yield Problem(where, what, f"measured for it: {', '.join(_MEASURED[task])}")
        elif not has_data:
            what = f"{name}: there is no data to measure it on"
            yield Problem(where, what, "add data.evaluation: {path: ...}")


def _check_data_files(recipe: Recipe, document: Document) -> list[Problem]:
    problems: list[Problem] = []
    refs = {"calibration": recipe.data.calibration, "evaluation": recipe.data.evaluation}
    for key, ref in refs.items():
        location: Location = ("data", key, "path")
        if ref is None or document.is_assumed(location):
            continue
        where, name = document.place(location), document.name(location)
        wanted = _SUFFIXES[recipe.model.task]
        suffix = Path(ref.path).suffix
        if suffix not in wanted and not document.is_assumed(("model", "task")):
            what = f"{name}: the task {recipe.model.task!r} does not read {ref.path!r}"
            problems.append(Problem(where, what, f"give a file that ends in {' or '.join(wanted)}"))
            continue
        try:
            has_scores = _read(document.path.parent / ref.path, ref.samples)
        except InvalidInput as error:
            problems += [
                Problem(where, f"{name}: {each.where}: {each.what}", each.remedy or _RELATIVE)
                for each in error.problems
            ]
            continue
        if key == "evaluation" and recipe.budgets.quality.spearman is not None and not has_scores:
            what = f"{name}: has no scored pairs, which budgets.quality.spearman needs"
            problems.append(Problem(where, what, "give a .tsv: sentence1, sentence2, score"))
    return problems


def _read(path: Path, samples: int | None) -> bool:
    """Read a data set, which raises what is wrong with it; whether it has scored pairs."""
    if path.suffix in data.ARRAY_SUFFIXES:
        data.read_arrays(path, samples)
        return False
    if path.suffix in data.PAIR_SUFFIXES:
        return data.read_pairs(path, samples).scores is not None
    data.read_texts(path, samples)
    return False


def _check_overlap(recipe: Recipe, document: Document) -> list[Problem]:
    calibration, evaluation = recipe.data.calibration, recipe.data.evaluation
    is_known = not any(
        document.is_assumed(("data", key, "path")) for key in ("calibration", "evaluation")
    )
    if calibration is None or evaluation is None or not is_known:
        return []
    folder = document.path.parent
    shared = data.overlap(folder / calibration.path, folder / evaluation.path)
    if not shared:
        return []
    where = document.place(("data", "evaluation", "path"))
    what = (
        f"data.evaluation: {len(shared)} of its samples are in the calibration data too, "
        f"e.g. {shared[0][:60]!r}"
    )
    return [Problem(where, what, "remove them from one; quality is judged on unseen data")]
