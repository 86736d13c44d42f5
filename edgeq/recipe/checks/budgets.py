"""Budgets that a recipe may set: those measured for its task, on data it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeq.core.budgets import BUDGETS, Budget
from edgeq.core.errors import Problem
from edgeq.core.tasks import task_of
from edgeq.core.yamlfile import Document
from edgeq.quantize.storage import STORAGES, storage

if TYPE_CHECKING:
    from edgeq.recipe.schema import Recipe


def check_budgets(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Every budget that is not measured for the task, or has no data to be measured on."""
    if document.is_assumed(("model", "task")):
        return
    has_data = bool(recipe.data.evaluation) or document.is_assumed(("data", "evaluation"))
    for budget in BUDGETS.values():
        if recipe.budgets.limit(budget) is not None:
            where = document.place(("budgets", budget.section, budget.key), key=True)
            for what, remedy in _faults(budget, recipe, has_data):
                yield Problem(where, f"budgets.{budget.name}: {what}", remedy)
    yield from _check_workload(recipe, document)


def _faults(budget: Budget, recipe: Recipe, has_data: bool) -> Iterator[tuple[str, str]]:
    """Why a budget cannot be measured, with the remedy."""
    task = recipe.model.task
    if not budget.is_measured_for(task):
        measured = ", ".join(_alternatives(budget, task))
        remedy = f"measured for it: {measured}" if measured else "remove it"
        yield f"is not measured for the task {task!r}", remedy
    elif budget.measured_by == "quality" and not has_data:
        yield "there are no data to measure it on", "add data.evaluation: {path: ...}"
    able = [each for each in STORAGES.values() if each.has_compute_units]
    targets = {target.format for target in recipe.targets}
    if budget.needs_compute_units and not targets & {each.name for each in able}:
        remedy = f"remove it, or add a target: {{format: {able[0].name}, devices: […]}}"
        titles = " and ".join(each.title for each in able)
        yield f"is measured for {titles} only, which is not a target", remedy


def _alternatives(budget: Budget, task: str) -> Iterator[str]:
    """Budgets that the same pass measures for the task."""
    for each in BUDGETS.values():
        if (
            each.tasks is not None
            and each.measured_by == budget.measured_by
            and each.is_measured_for(task)
        ):
            yield each.name


def _check_workload(recipe: Recipe, document: Document) -> Iterator[Problem]:
    work = recipe.workload
    if task_of(recipe.model.task).generates and work.prompt + work.generate > work.context:
        where = document.place(("workload", "context"))
        what = f"workload: {work.prompt} + {work.generate} tokens do not fit {work.context}"
        yield Problem(where, what, f"write 'context: {work.prompt + work.generate}' or more")
    for target in recipe.targets:
        own = storage(target.format)
        if work.kv not in (None, "auto", *own.kv_types):
            what = f"workload.kv: {own.title} has no KV cache in {work.kv}"
            remedy = f"write 'kv: {own.kv_types[0]}', or 'kv: auto' for several targets"
            yield Problem(document.place(("workload", "kv")), what, remedy)
