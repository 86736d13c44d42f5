"""A first recipe for a user's model, with budgets from its estimates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import writable, write_text
from edgeq.core.tasks import SPEECH_RECOGNITION, TASKS, TENSOR, FirstRecipe, task_of
from edgeq.models.huggingface import licence_of
from edgeq.models.locate import Located, locate
from edgeq.models.source import Source, source_named
from edgeq.pipeline.first_draft import possible_draft
from edgeq.pipeline.first_interface import interface_of_model, rows_of
from edgeq.pipeline.first_targets import target_choices
from edgeq.pipeline.first_task import stated_by_files
from edgeq.pipeline.first_text import Draft, Need, budget_lines, recipe_text, target_lines
from edgeq.pipeline.first_whisper import (
    from_base,
    is_whisper,
    read_whisper,
    whole_text,
    write_parts,
)
from edgeq.pipeline.plan.plan import make_plan


@dataclass(frozen=True)
class Written:
    """A recipe that was written.

    missing: data files that are not there yet. hint: what else the model may be for.
    """

    path: Path
    task: str
    missing: tuple[Need, ...]
    hint: str = ""


def write_first_recipe(
    model: str,
    devices: Sequence[str],
    out: Path | None = None,
    *,
    task: str | None = None,
    calibration: Path | None = None,
    evaluation: Path | None = None,
) -> Written:
    """Write a recipe for `model`, a source as recipes name them, that fits `devices`.

    out: by default NAME.yaml in the current directory. task: by default what the model says.
    calibration, evaluation: data files; by default names next to the recipe. Raises InvalidInput
    for a model or device that recipes cannot have and for a file that is there already, Missing
    where the model cannot be fetched.
    """
    source = source_named(model)
    located = locate(source, Path(), model, weights=False)
    if not located.is_file and is_whisper(located.path) and task in (None, SPEECH_RECOGNITION.name):
        return _write_whisper(located.path, _name(source), devices, out, evaluation)
    source, located = _exported(source, located, model)
    stated = task_of(task) if task else stated_by_files(located, model)
    if stated.first_recipe is None:
        remedy = f"copy a recipe of the task {stated.name} from the documentation"
        raise InvalidInput(Problem(model, f"no first recipe for {stated.noun} is known", remedy))
    name = _name(source)
    out = _new_file(out, name)
    data = _data(stated.first_recipe, out.parent, calibration, evaluation)
    if takes_any := located.is_file and stated.takes_arrays and not stated.takes_files:
        shapes = f"{data[0].content}: {rows_of(located.path)}"
        data = (replace(data[0], content=shapes), data[1])
    targets = next(target_choices(stated, devices))
    interface = interface_of_model(located, stated)
    origin, quantize = _from(source, out.parent), stated.first_recipe.quantize
    draft = Draft(name, origin, stated, targets, data, out.parent, quantize, interface)
    draft, planned = possible_draft(draft, model, located, devices)
    write_text(out, recipe_text(draft, planned))
    missing = tuple(need for need in draft.needs if not need.path.exists())
    return Written(out, stated.name, missing, _hint(draft, takes_any and not task))


def _exported(source: Source, located: Located, model: str) -> tuple[Source, Located]:
    """The source and place that a recipe names: the graph in a directory without other weights."""
    exported = located.path / MODEL_FILE
    if exported.is_file() and not any(located.path.glob("*.safetensors")):
        source = source_named(str(Path(model, MODEL_FILE)))
        located = locate(source, Path(), model, weights=False)
    if located.is_file and not source.is_path:
        what = "has no model directory, but an .onnx file, which a recipe names by its path"
        raise InvalidInput(Problem(model, what, f"run: edgeq new {located.path}"))
    return source, located


def _data(
    first: FirstRecipe, folder: Path, calibration: Path | None, evaluation: Path | None
) -> tuple[Need, Need]:
    """The files of calibration and evaluation, in `folder` where none is given."""
    return (
        Need(calibration or folder / first.calibration[0], first.calibration[1]),
        Need(evaluation or folder / first.evaluation[0], first.evaluation[1]),
    )


def _hint(draft: Draft, any_arrays: bool) -> str:
    """What else the model may be for, or what no file says of its images."""
    interface = draft.interface
    if interface is not None and interface.image is not None and not interface.stated_by:
        return (
            "no file says how an image becomes the input: write what the model was trained with "
            "below image:, or every answer is a guess"
        )
    names = [task.name for task in TASKS.values() if task.takes_files]
    named = f"if it takes images or speech, write it with --task {' or '.join(names)}"
    return named if any_arrays else ""


# However short a recording is, its spectrum has 30 seconds.
_WHISPER_LATENCY = "latency: {p90: 3 s}"


def _write_whisper(
    folder: Path, name: str, devices: Sequence[str], out: Path | None, evaluation: Path | None
) -> Written:
    """Write the recipes of an encoder and a decoder, and the one of both."""
    out, first = _new_file(out, name), SPEECH_RECOGNITION.first_recipe
    assert first is not None
    first = replace(first, budgets=(_WHISPER_LATENCY, *first.budgets[1:]))
    whisper = read_whisper(folder)
    usual, content = first.evaluation
    need = Need(evaluation or out.parent / usual, content)
    targets = target_lines(next(target_choices(TENSOR, devices)))
    licence = licence_of(folder)
    recipes = write_parts(folder, out, name, licence, targets)
    budgets = budget_lines(first, [make_plan(recipe) for recipe in recipes.values()])
    text = whole_text(name, whisper, recipes, folder, out.parent, need.path, budgets)
    write_text(out, text)
    return Written(out, SPEECH_RECOGNITION.name, () if need.path.exists() else (need,))


def _name(source: Source) -> str:
    path = Path(source.value).resolve()
    named = path.parent if path.name == MODEL_FILE else path
    bare = named.name.removesuffix(".onnx").lower()
    return re.sub(r"[^a-z0-9]+", "-", bare).strip("-") or "model"


def _new_file(out: Path | None, name: str) -> Path:
    """The recipe to write. Raises InvalidInput if it is there already."""
    out = out or Path(f"{name}.yaml")
    writable(out, "--out", ".yaml")
    if out.exists():
        remedy = "remove it, or name another with --out"
        raise InvalidInput(Problem(str(out), "is there already", remedy))
    return out


def _from(source: Source, base: Path) -> Source:
    """The same source with a path relative to `base`, as recipes have it."""
    if not source.is_path or Path(source.value).is_absolute():
        return source
    return source.model_copy(update={"value": from_base(Path(source.value), base)})
