"""Drafts of a first recipe: which file formats and variants a model can have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import Task
from edgeq.core.temporary import TemporaryFolder
from edgeq.models.locate import Located
from edgeq.models.source import source_named
from edgeq.pipeline.first_interface import a_sample, interface_of
from edgeq.pipeline.first_targets import target_choices
from edgeq.pipeline.first_text import Draft, Need, model_lines, target_lines, workload_lines
from edgeq.pipeline.plan.described import described
from edgeq.pipeline.plan.plan import Planned, make_plan


def possible_draft(
    draft: Draft, model: str, located: Located, devices: Sequence[str]
) -> tuple[Draft, Planned]:
    """The draft with file formats and variants that quantize most of the model, and its plan.

    Where none do: the first that can be planned.
    """
    others = (draft.first.otherwise, ("float32",))  # the last for weights too small for any
    variants = [draft.quantize, *(each for each in others if each)]
    drafts = [
        replace(draft, targets=targets, quantize=each)
        for targets in target_choices(draft.task, devices)
        for each in variants
    ]
    possible: list[tuple[Draft, Planned]] = []
    refusals: list[InvalidInput] = []
    for each in drafts:
        try:
            changed = bool(refusals) and each.quantize != draft.quantize
            why = refusals[0].problems[0].what if changed else ""
            possible.append((replace(each, instead=why), _planned(each, model, located)))
        except InvalidInput as reason:
            refusals.append(reason)
            continue
        if _is_quantized(possible[-1][1]):
            return possible[-1]
    if not possible:
        raise refusals[0]
    return possible[0]


def _is_quantized(planned: Planned) -> bool:
    """Whether more than half of what its weights take in float32 is saved."""
    tensors = planned.plan.artifacts[0].tensors
    floats = sum(4 * math.prod(tensor.shape) for tensor in tensors)
    return 2 * sum(tensor.bytes for tensor in tensors) < floats


def possible_plans(
    model: str, located: Located, task: Task, device: str, presets: Sequence[str]
) -> list[Planned]:
    """The plan of a first recipe for each of `presets` that quantizes the model on a device.

    All have one file format, the best that holds the model. Raises InvalidInput, with the last
    reason of the best for the task, if none does.
    """
    declares = located.is_file and (task.takes_files or task.reads_texts)
    interface = interface_of(located.path, task) if declares else None
    none = Need(Path(), "")
    source = source_named(str(located.path.resolve()))
    problems: list[InvalidInput] = []
    for targets in target_choices(task, [device]):
        draft = Draft("model", source, task, targets, (none, none), Path(), (), interface)
        plans, problem = _plans(draft, model, located, presets)
        if plans or problem is None:
            return plans
        problems.append(problem)
    raise problems[0]


def _plans(
    draft: Draft, model: str, located: Located, presets: Sequence[str]
) -> tuple[list[Planned], InvalidInput | None]:
    """The plan of a draft for each of `presets` that it can have, and the last refusal."""
    plans: list[Planned] = []
    problem = None
    for preset in presets:
        try:
            plans.append(_planned(replace(draft, quantize=(preset,)), model, located))
        except InvalidInput as error:
            problem = error
    return plans, problem


def _planned(draft: Draft, model: str, located: Located) -> Planned:
    """The plan of the recipe in 8 bits, without budgets and contents of data."""
    source = str(draft.source)
    if draft.source.is_path:
        source = str((draft.base / source).resolve())
    lines = model_lines(draft, None, source)
    if draft.task.generates:
        read = described(draft.source, draft.task.name, draft.base, model, weights=False)
        lines += workload_lines(draft, read.decoder)
    with TemporaryFolder() as folder:
        if draft.interface is not None:
            lines += draft.interface.lines(Path(folder), draft=True)
        if draft.task.takes_files:
            lines.append("data: {calibration: {path: files}}")
            Path(folder, "files").mkdir()
            suffix = ".png" if draft.task.takes_images else ".wav"
            Path(folder, "files", f"named-only{suffix}").touch()
        elif draft.task.takes_arrays and located.is_file:
            lines.append("data: {calibration: {path: made-up.npz}}")
            np.savez(Path(folder, "made-up.npz"), **a_sample(located.path))  # type: ignore[arg-type]
        lines += [f"quantize: {{default: [{draft.quantize[0]}]}}", *target_lines(draft.targets)]
        path = Path(folder, "draft.yaml")
        path.write_text("\n".join(lines), encoding="utf-8")
        try:
            return make_plan(path)
        except InvalidInput as error:
            problems = [Problem(model, each.what, each.remedy) for each in error.problems]
            raise InvalidInput(problems) from None
