"""The declared interface of an .onnx file: labels, and how text or image become its input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.core.yamlfile import Document
from edgeq.recipe.labels import read_labels

if TYPE_CHECKING:
    from edgeq.recipe.schema import ModelSpec, Recipe

_EXAMPLES = {
    "image": "add image: {size: 224, mean: …, deviation: …}, as the model was trained",
    "tokenizer": "add tokenizer: ./exported, the directory with its tokenizer.json",
    "audio": "add audio: {rate: 16000, seconds: 20, normalize: …}, as the model was trained",
    "transcription": "add transcription: {blank: <pad>, space: '|'}, in the model's labels",
    "detection": "add detection: {boxes: OUTPUT, row: [box, scores], …}, as its outputs are",
    "labels": "add labels: [NAME, …] in the order of the output, or a file with one per line",
}
_UNFIT = {
    "tokenizer": "is for texts and an .onnx file",
    "image": "the task {task!r} takes no images",
    "detection": "the task {task!r} finds no boxes",
    "audio": "the task {task!r} takes no recordings",
    "transcription": "the task {task!r} writes no texts",
}


def check_interface(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """What the task needs of an .onnx file and the recipe lacks, and what applies to none."""
    if document.is_assumed(("model", "task")) or document.is_assumed(("model", "source")):
        return
    model, task = recipe.model, task_of(recipe.model.task)
    is_file = model.source.kind == "file"
    needed = {
        "image": task.takes_images and is_file,
        "detection": task.detects and is_file,
        "audio": task.transcribes and is_file,
        "transcription": task.transcribes and is_file,
        "tokenizer": task.reads_texts and is_file,
        "labels": task.has_labels and is_file,
        "function": False,
    }
    for key, is_needed in needed.items():
        given = getattr(model, key) is not None
        where = document.place(("model", key) if given else ("model",), key=given)
        fits = is_needed or (key == "function" and needed["labels"])
        fits = fits or (key == "detection" and task.detects)
        if given and not fits:
            why = _UNFIT.get(key, "is for .onnx files whose answers are labels")
            if key == "image" and task.takes_images:
                why = "is read from the directory's preprocessor_config.json"
            what = f"model.{key}: {why.format(task=task.name)}"
            yield Problem(where, what, "remove it")
        elif is_needed and not given and not document.is_assumed(("model", key)):
            what = f"model: an .onnx file for {task.name} needs {key!r}"
            yield Problem(where, what, _EXAMPLES[key])
    if model.dimension is not None and not task.has_sentence_head:
        what = f"model.dimension: the task {task.name!r} gives no vector of a text"
        yield Problem(document.place(("model", "dimension")), what, "remove it")
    if needed["labels"] and model.labels is not None:
        try:
            labels_of(model, document.path)
        except InvalidInput as error:
            where = document.place(("model", "labels"))
            for each in error.problems:
                yield Problem(where, f"model.labels: {each.where}: {each.what}", each.remedy)


def labels_of(model: ModelSpec, recipe: Path) -> tuple[str, ...]:
    """The names of the classes; `recipe` is the path that theirs is relative to.

    Raises InvalidInput for a file that cannot be read, a single one and one given twice.
    """
    given = model.labels or ()
    labels = read_labels(recipe.parent / given) if isinstance(given, str) else given
    (label, count), *_ = Counter(labels).most_common(1) or [("", 0)]
    least = 1 if task_of(model.task).detects else 2
    if len(labels) < least or count > 1 or not all(labels):
        what = f"{label!r} is listed {count} times" if count > 1 else f"at least {least} needed"
        raise InvalidInput(Problem("labels", what, "give every class a unique name"))
    return labels
