"""Which budgets a recipe may set: those that are measured for its task, on data it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeq.core.errors import Problem
from edgeq.core.yamlfile import Document

if TYPE_CHECKING:
    from edgeq.recipe.schema import Recipe

_MEASURED = {
    "sentence-embedding": ("cosine", "spearman"),
    "text-generation": ("kl", "kl_p99", "top1", "perplexity"),
    "tensor": ("error", "top1"),
}


def check_budgets(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Every budget that is not measured for the task, or has nothing to be measured on."""
    if document.is_assumed(("model", "task")):
        return
    task = recipe.model.task
    has_data = recipe.data.evaluation or document.is_assumed(("data", "evaluation"))
    yield from _check_language_budgets(recipe, document)
    yield from _check_placement(recipe, document)
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


def _check_placement(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Only Core ML tells where it runs what."""
    if any(target.format == "coreml" for target in recipe.targets):
        return
    for key, bound in recipe.budgets.placement.model_dump().items():
        if bound is not None:
            where = document.place(("budgets", "placement", key), key=True)
            what = f"budgets.placement.{key}: is measured for Core ML alone, which is not a target"
            yield Problem(where, what, "remove it, or add a target: {format: coreml, devices: […]}")


def _check_language_budgets(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Time of one run is for models that answer in one run; speed is for those that go on."""
    is_language = recipe.model.task == "text-generation"
    latency, speed = recipe.budgets.latency, recipe.budgets.speed
    keys = {
        ("latency", "p50"): (latency.p50, False),
        ("latency", "p90"): (latency.p90, False),
        ("latency", "first_token"): (latency.first_token, True),
        ("speed", "prompt"): (speed.prompt, True),
        ("speed", "generation"): (speed.generation, True),
    }
    fitting = [".".join(key) for key, (_, language) in keys.items() if language == is_language]
    for key, (bound, language) in keys.items():
        if bound is not None and language != is_language:
            where = document.place(("budgets", *key), key=True)
            what = f"budgets.{'.'.join(key)}: is not measured for the task {recipe.model.task!r}"
            yield Problem(where, what, f"measured for it: {', '.join(fitting)}")
    work = recipe.workload
    if is_language and work.prompt + work.generate > work.context:
        where = document.place(("workload", "context"))
        what = f"workload: {work.prompt} + {work.generate} tokens do not fit {work.context}"
        yield Problem(where, what, f"write 'context: {work.prompt + work.generate}' or more")
