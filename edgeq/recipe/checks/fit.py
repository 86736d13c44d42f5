"""Which budgets `quantize.fit` may state, and that there is something to quantize at all."""

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
    """Every budget that cannot be chosen for, each with its place."""
    spec = recipe.quantize
    is_known = not any(document.is_assumed(("quantize", key)) for key in ("default", "fit"))
    if not spec.default and not spec.fit and is_known:
        what = "quantize: asks for nothing, neither 'default' nor 'fit'"
        yield Problem(document.place(("quantize",)), what, "write e.g. 'default: int8'")
    has_data = recipe.data.calibration or document.is_assumed(("data", "calibration"))
    task, seen = recipe.model.task, set()
    task_is_known = not document.is_assumed(("model", "task"))
    for index, fit in enumerate(spec.fit):
        # A single budget stands for a list of one, in a document as well.
        location: Location = ("quantize", "fit", index)
        where, name = document.place(location), document.name(location)
        if not fit.bounds:
            yield Problem(where, f"{name}: bounds nothing", _EXAMPLE)
        if not has_data:
            what = f"{name}: what tensors cost is measured on calibration data, and there is none"
            yield Problem(where, what, "add data.calibration: {path: ...}")
        if fit.variant_name in seen:
            what = f"{name}: {fit.variant_name!r} is there twice"
            yield Problem(where, what, "remove one, or give it a 'name'")
        seen.add(fit.variant_name)
        for what in _unmeant(fit, task) if task_is_known else ():
            yield Problem(where, f"{name}: {what}", f"remove it; {_EXAMPLE}")


def _unmeant(fit: FitSpec, task: str) -> Iterator[str]:
    """Bounds that mean nothing for a task."""
    writes = task_of(task).generates
    if fit.speed and not writes:
        yield "speed is that of a language model"
    if fit.quality.kl and not writes:
        yield "quality.kl is that of a language model"
    if fit.quality.cosine and writes:
        yield "quality.cosine is that of encoders; language models have kl"
    if task_of(task).takes_arrays and (fit.latency or fit.memory):
        yield "memory and latency are estimated for language models and encoders alone"
