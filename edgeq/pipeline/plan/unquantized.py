"""Variants that would quantize no weight of the model, refused before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeq.core.errors import Problem
from edgeq.core.tasks import task_of
from edgeq.core.yamlfile import Document
from edgeq.formats.file_format import TensorPlan
from edgeq.formats.registry import file_format
from edgeq.models.model import DescribedModel
from edgeq.pipeline.plan.records import ArtifactPlan
from edgeq.pipeline.plan.tensors import planned_tensors
from edgeq.quantize.decide import SMALLEST_WEIGHT
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format, preset
from edgeq.recipe.schema import Recipe

_FLOATS = ("float32", "float16")
_MOST_NAMED = 3


def unquantized(
    recipe: Recipe, document: Document, model: DescribedModel, artifacts: tuple[ArtifactPlan, ...]
) -> Iterator[Problem]:
    """A problem for each variant of integers or palettes that leaves every weight a float."""
    by_name: Mapping[str, ArtifactPlan] = {artifact.name: artifact for artifact in artifacts}
    for format in dict.fromkeys(target.format for target in recipe.targets):
        choices = recipe.quantize.choices(format, recipe.model.task)
        for index, variant in enumerate(choices):
            artifact = by_name.get(f"{format}-{variant.name}") if variant else None
            if artifact is None or variant is None or variant.weights in _FLOATS:
                continue
            if not _quantizes(artifact.tensors):
                what = f"{variant.name} quantizes no weight of {model.located.path.name}: "
                where = document.place(("quantize", "default", index))
                remedy = _remedy(recipe, model, format)
                yield Problem(where, what + _reasons(artifact.tensors), remedy)


def _quantizes(tensors: tuple[TensorPlan, ...]) -> bool:
    return any(tensor.grid not in _FLOATS for tensor in tensors)


def _reasons(tensors: tuple[TensorPlan, ...]) -> str:
    if not tensors:
        return f"no float32 constant of it has two axes and {SMALLEST_WEIGHT:,} values or more"
    named = [f"{tensor.name} {tensor.reason}" for tensor in tensors[:_MOST_NAMED]]
    rest = len(tensors) - len(named)
    return "; ".join([*named, f"and {rest} more" if rest else ""]).removesuffix("; ")


def _remedy(recipe: Recipe, model: DescribedModel, format: Format) -> str:
    """The presets that do quantize something, to be written instead."""
    own, task = file_format(format), recipe.model.task
    names = own.decoder_presets if task_of(task).generates else own.encoder_presets
    able = [name for name in names if _can(model, Intent(preset(name, format, task), format, task))]
    return f"write one of: {', '.join(able)}" if able else "write 'default: float32'"


def _can(model: DescribedModel, intent: Intent) -> bool:
    return _quantizes(tuple(planned_tensors(model, intent)))
