"""Core ML settings of a recipe that only apply to .onnx files, and the labels of their classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.core.yamlfile import Document
from edgeq.recipe.labels import read_labels

if TYPE_CHECKING:
    from edgeq.recipe.schema import Recipe

_ARRAYS_ONLY = ("inputs", "image", "labels")


def check_coreml(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Settings that do not apply to the task, wrong channel counts, and unusable labels."""
    spec = recipe.coreml
    for key in () if task_of(recipe.model.task).takes == "arrays" else _ARRAYS_ONLY:
        if getattr(spec, key) and not document.is_assumed(("model", "task")):
            what = f"coreml.{key}: is for the task 'tensor', and the task is {recipe.model.task!r}"
            yield Problem(document.place(("coreml", key), key=True), what, "remove it")
    if spec.image is not None:
        channels = 1 if spec.image.color == "grayscale" else 3
        for key in ("scale", "bias"):
            values = getattr(spec.image, key)
            if len(values) not in (1, channels):
                what = f"coreml.image.{key}: {len(values)} numbers for {channels} channels"
                where = document.place(("coreml", "image", key))
                yield Problem(where, what, "give one number, or one per channel")
        if 0 in spec.image.scale:
            where = document.place(("coreml", "image", "scale"))
            yield Problem(where, "coreml.image.scale: 0 makes all images equal", "e.g. 0.00392157")
    if spec.labels is not None and not document.is_assumed(("coreml", "labels")):
        try:
            read_labels(document.path.parent / spec.labels)
        except InvalidInput as error:
            where = document.place(("coreml", "labels"))
            for each in error.problems:
                yield Problem(where, f"coreml.labels: {each.where}: {each.what}", each.remedy)
