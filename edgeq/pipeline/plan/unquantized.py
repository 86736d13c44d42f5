"""Variants that would quantize no weight of the model, refused before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgeq.core.errors import Problem
from edgeq.core.tasks import task_of
from edgeq.core.yamlfile import Document
from edgeq.formats.file_format import TensorPlan
from edgeq.formats.registry import file_format
from edgeq.models.model import DescribedModel
from edgeq.pipeline.plan.records import ArtifactPlan
from edgeq.pipeline.plan.tensors import planned_tensors
from edgeq.quantize.decide import SMALLEST_WEIGHT
from edgeq.quantize.number_formats.floats import FLOAT32
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format, preset
from edgeq.recipe.schema import Recipe

_FLOATS = ("float32", "float16", "F32", "F16", "BF16")
_MOST_NAMED = 3


def unquantized(
    recipe: Recipe, document: Document, model: DescribedModel, artifacts: Sequence[ArtifactPlan]
) -> Iterator[tuple[str, Problem]]:
    """Artifacts of integers or palettes that leave every weight a float, each with its problem."""
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
                problem = Problem(where, what + _reasons(artifact.tensors), remedy)
                yield artifact.name, problem


def _quantizes(tensors: tuple[TensorPlan, ...]) -> bool:
    return any(tensor.number_format not in _FLOATS for tensor in tensors)


def _reasons(tensors: tuple[TensorPlan, ...]) -> str:
    if not tensors:
        return f"none of its float32 constants has two axes and {SMALLEST_WEIGHT:,} values or more"
    names: dict[str, list[str]] = {}
    for tensor in tensors:
        names.setdefault(tensor.reason, []).append(tensor.name)
    lines = [f"{_several(own)} {reason}" for reason, own in names.items()]
    rest = len(lines) - _MOST_NAMED
    return "; ".join([*lines[:_MOST_NAMED], *([f"and {rest} other reasons"] if rest > 0 else [])])


def _several(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more:"


def _remedy(recipe: Recipe, model: DescribedModel, format: Format) -> str:
    """The presets that do quantize something, to be written instead."""
    own, task = file_format(format), recipe.model.task
    names = own.decoder_presets if task_of(task).generates else own.encoder_presets
    able = [name for name in names if _can(model, Intent(preset(name, format, task), format, task))]
    if able:
        return f"write one of: {', '.join(able)}"
    return f"write 'default: {names[0] if names[:1] and names[0] in _FLOATS else FLOAT32.name}'"


def _can(model: DescribedModel, intent: Intent) -> bool:
    return _quantizes(tuple(planned_tensors(model, intent)))
