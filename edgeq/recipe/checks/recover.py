"""Where a recipe may ask for recovery: for language models in GGUF and ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeq.core.errors import Problem
from edgeq.core.tasks import task_of
from edgeq.core.validation_messages import Location
from edgeq.core.yamlfile import Document
from edgeq.quantize.recover_spec import LEAST, too_few
from edgeq.quantize.storage import Storage, storage

if TYPE_CHECKING:
    from edgeq.recipe.schema import Recipe


def check_recover(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Every `recover` that cannot have an effect, with its place."""
    asked: list[Location] = [
        ("quantize", "default", index)
        for index, choice in enumerate(recipe.quantize.default)
        if not isinstance(choice, str) and choice.recover
    ]
    fits: list[Location] = [
        ("quantize", "fit", index) for index, fit in enumerate(recipe.quantize.fit) if fit.recover
    ]
    is_task_known = not document.is_assumed(("model", "task"))
    for location in (*asked, *fits):
        if document.is_assumed(location):
            continue
        where, name = document.place((*location, "recover")), document.name((*location, "recover"))
        if not task_of(recipe.model.task).generates and is_task_known:
            what = f"{name}: only a language model has logits to train on"
            yield Problem(where, what, f"remove it; the task is {recipe.model.task!r}")
    calibration = recipe.data.calibration
    place: Location = ("data", "calibration", "samples")
    known = calibration and not document.is_assumed(place)
    if calibration and known and (asked or fits) and (calibration.samples or LEAST) < LEAST:
        what = f"{document.name(place)}: {too_few(calibration.samples or 0)}"
        yield Problem(document.place(place), what, f"write {LEAST} or more, or remove 'recover'")
    storages = [storage(format) for format in dict.fromkeys(t.format for t in recipe.targets)]
    able = [each for each in storages if each.takes_adapter]
    for unable in storages:
        if unable.takes_adapter:
            continue
        # If no target can, the error concerns the entry as a whole.
        if able and not document.is_assumed(("quantize", "default")):
            yield from _left_out(recipe, document, asked, unable)
        for location in fits:
            name = document.name((*location, "recover"))
            what = f"{name}: {unable.title} packages have no adapter"
            remedy = f"remove it, or give {unable.title} a separate recipe"
            yield Problem(document.place((*location, "recover")), what, remedy)
    for index, fit in enumerate(recipe.quantize.fit):
        if fit.recover and fit.limit is not None:
            location = ("quantize", "fit", index, "recover")
            what = f"{document.name(location)}: an adapter's gain is not known in advance"
            remedy = "remove it, or set a size or memory budget instead of quality"
            yield Problem(document.place(location), what, remedy)


def _left_out(
    recipe: Recipe, document: Document, asked: list[Location], unable: Storage
) -> Iterator[Problem]:
    """Defaults that `unable` could store except for their adapter, and does not get without one."""
    spec, task, format = recipe.quantize, recipe.model.task, unable.name
    given = {variant.weights for variant in spec.choices(format, task) if variant}
    for location in asked:
        choice = spec.default[int(location[-1])]
        if document.is_assumed(location) or isinstance(choice, str) or choice.weights in given:
            continue
        plain = choice.model_copy(update={"recover": None})
        if spec.model_copy(update={"default": (plain,)}).choices(format, task) == (None,):
            continue  # it could not store these weights anyway
        name = document.name((*location, "recover"))
        what = f"{name}: {unable.title} packages have no adapter, so {format} would not get it"
        remedy = (
            f"add '{plain.weights}' to quantize.default, which {unable.title} then gets without "
            f"an adapter, or give {unable.title} a separate recipe"
        )
        yield Problem(document.place((*location, "recover")), what, remedy)
