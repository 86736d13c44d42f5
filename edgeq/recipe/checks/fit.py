"""Budgets that `quantize.fit` may state, and whether there is anything to quantize."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeq.core.errors import Problem
from edgeq.core.tasks import task_of
from edgeq.core.validation_messages import Location
from edgeq.core.yamlfile import Document

if TYPE_CHECKING:
    from edgeq.quantize.budget_spec import FitSpec
    from edgeq.recipe.schema import Recipe

_EXAMPLE = "write e.g. {size: 4.2 MiB}"


def check_fits(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Every budget without a possible choice, each with its place."""
    spec = recipe.quantize
    is_known = not any(document.is_assumed(("quantize", key)) for key in ("default", "fit"))
    if not spec.default and not spec.fit and is_known:
        what = "quantize: has neither 'default' nor 'fit'"
        yield Problem(document.place(("quantize",)), what, "write e.g. 'default: int8'")
    has_data = recipe.data.calibration or document.is_assumed(("data", "calibration"))
    task, seen = recipe.model.task, set()
    task_is_known = not document.is_assumed(("model", "task"))
    for index, fit in enumerate(spec.fit):
        # A single budget stands for a list of one, in a document as well.
        location: Location = ("quantize", "fit", index)
        where, name = document.place(location), document.name(location)
        if not fit.bounds:
            yield Problem(where, f"{name}: has no bounds", _EXAMPLE)
        if not has_data:
            what = f"{name}: sensitivities are measured on calibration data, and there are none"
            yield Problem(where, what, "add data.calibration: {path: ...}")
        if fit.variant_name in seen:
            what = f"{name}: {fit.variant_name!r} is listed twice"
            yield Problem(where, what, "remove one, or give it a 'name'")
        seen.add(fit.variant_name)
        for what in _unmeant(fit, task) if task_is_known else ():
            yield Problem(where, f"{name}: {what}", f"remove it; {_EXAMPLE}")


def _unmeant(fit: FitSpec, task: str) -> Iterator[str]:
    """Bounds that do not apply to a task."""
    writes = task_of(task).generates
    if fit.speed and not writes:
        yield "speed applies to language models only"
    if fit.quality.kl and not writes:
        yield "quality.kl applies to language models only"
    if fit.quality.cosine and writes:
        yield "quality.cosine applies to encoders; language models have kl"
    if task_of(task).takes_arrays and (fit.latency or fit.memory):
        yield "memory and latency are estimated for language models and encoders only"
