"""What cannot be made of a GGUF file whose architecture edgeq does not read."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.core.errors import Problem
from edgeq.core.yamlfile import Document
from edgeq.formats.registry import FILE_FORMATS, file_format
from edgeq.models.model import DescribedModel
from edgeq.quantize.methods import rounding_method
from edgeq.recipe.schema import Recipe


def unfit_for_file(recipe: Recipe, document: Document, model: DescribedModel) -> Iterator[Problem]:
    """A problem for every target and method that needs to know what the model computes."""
    if model.decoder is None or not model.decoder.unknown:
        return
    able = [each.name for each in FILE_FORMATS.values() if each.stores_any_file]
    for index, target in enumerate(recipe.targets):
        if not file_format(target.format).stores_any_file:
            what = f"{target.format} cannot be made of this file: {model.decoder.unknown}"
            remedy = f"write 'format: {able[0]}', or use the model in Hugging Face's format"
            yield Problem(document.place(("targets", index, "format")), what, remedy)
            continue
        chosen = recipe.quantize.choices(target.format, recipe.model.task)
        for at, variant in enumerate(chosen):
            if variant and (variant.recover or rounding_method(variant.method).trains):
                place = document.place(("quantize", "default", at))
                yield _untrainable(place, variant.name, model.decoder.unknown)
        for at, fit in enumerate(recipe.quantize.fit):
            if fit.recover or rounding_method(fit.method).trains:
                place = document.place(("quantize", "fit", at))
                yield _untrainable(place, fit.variant_name, model.decoder.unknown)


def _untrainable(place: str, name: str, why: str) -> Problem:
    what = f"{name}: only a model whose layers edgeq knows can be trained: {why}"
    return Problem(place, what, "remove 'recover' and 'method: learned'")
