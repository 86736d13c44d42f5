"""Core ML settings of a recipe that only apply to .onnx files, and the labels of their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.core.yamlfile import Document

if TYPE_CHECKING:
    from edgeq.recipe.schema import Recipe

_ONNX_ONLY = ("inputs", "image", "labels")


def check_coreml(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Settings that do not apply to the task, wrong channel counts, and unusable labels."""
    spec = recipe.coreml
    for key in () if task_of(recipe.model.task).takes_arrays else _ONNX_ONLY:
        if getattr(spec, key) and not document.is_assumed(("model", "task")):
            what = f"coreml.{key}: applies to .onnx files only, the task is {recipe.model.task!r}"
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


def read_labels(path: Path) -> tuple[str, ...]:
    """Read one label per line; empty lines at the end do not count. Raises InvalidInput."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InvalidInput(Problem(str(path), why, "paths are relative to the recipe")) from None
    labels = tuple(line.strip() for line in lines)
    if not labels or not all(labels):
        at = labels.index("") + 1 if labels else 1
        raise InvalidInput(Problem(f"{path}:{at}", "a label is empty", "give one label per line"))
    (label, count), *_ = Counter(labels).most_common(1)
    if count > 1:
        what = f"the label {label!r} is listed {count} times"
        raise InvalidInput(Problem(str(path), what, "give every class a unique name"))
    return labels
