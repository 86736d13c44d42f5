"""The declared interface of an .onnx file, compared with its graph: of a classifier or detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.core.artifact import Classes, ClassFunction, ValueInfo
from edgeq.core.audio import AudioSettings, TranscriptionSettings
from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.images import ImageSettings
from edgeq.core.tasks import task_of
from edgeq.core.validation_messages import suggest
from edgeq.core.yamlfile import Document
from edgeq.models.model import DescribedModel
from edgeq.recipe.checks.interface import labels_of
from edgeq.recipe.schema import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

_KEEP = ("Identity", "Cast", "Reshape", "Squeeze", "Flatten")  # values stay what they are


def with_interface(model: DescribedModel, given: ModelSpec, document: Document) -> DescribedModel:
    """The model with the classes that the recipe declares, unless it comes from a directory.

    Raises InvalidInput where labels or image do not fit its graph.
    """
    if not model.located.is_file or not task_of(given.task).has_labels:
        return model
    from edgeq.models.graphs.imported import read_onnx

    graph = read_onnx(model.located.path).graph
    labels = labels_of(given, document.path)
    problems: list[Problem] = []
    function = given.function or "none"
    if given.transcription is not None:
        problems = [*_unfit_symbols(given.transcription, labels, given.function, document)]
    elif given.detection is None:
        function, problems = _function(given, graph, document)
    problems += _misfits(given, graph, labels, document)
    if problems:
        raise InvalidInput(problems)
    return replace(model, classes=Classes(labels=labels, function=function))


def _misfits(
    given: ModelSpec, graph: ir.Graph, labels: tuple[str, ...], document: Document
) -> Iterator[Problem]:
    from edgeq.formats.onnx.write import value_info

    file = str(given.source)
    outputs = graph.outputs if given.detection is None else graph.outputs[:1]
    for noun, values in (("input", graph.inputs), ("output", outputs)):
        if len(values) != 1:
            names = ", ".join(value.name or "" for value in values)
            what = f"{file} has {len(values)} {noun}s: {names}; {given.task} needs one"
            remedy = f"export it with one {noun}, or write 'task: tensor'"
            yield Problem(document.place(("model", "source")), what, remedy)
            return
    taken = value_info(graph.inputs[0])
    if given.image is not None:
        place = document.place(("model", "image"))
        yield from (Problem(place, *words) for words in _unfit_image(given.image, taken))
    if given.audio is not None:
        yield from _unfit_audio(given.audio, labels, taken, value_info(graph.outputs[0]), document)
    elif given.detection is not None:
        place = document.place(("model", "detection"))
        found = _unfit_detection(given.detection, len(labels), [*map(value_info, graph.outputs)])
        yield from (Problem(place, *words) for words in found)
        if given.function == "softmax" and given.detection.names_class:
            what = "model.function: softmax needs a score for each label"
            yield Problem(document.place(("model", "function")), what, "remove it")
    else:
        place = document.place(("model", "labels"))
        yield from (
            Problem(place, *words) for words in _unfit_labels(labels, value_info(graph.outputs[0]))
        )


def _unfit_audio(
    audio: AudioSettings,
    labels: tuple[str, ...],
    taken: ValueInfo,
    answer: ValueInfo,
    document: Document,
) -> Iterator[Problem]:
    fits = len(taken.shape) == 2 and all(
        isinstance(size, str) or size == wanted
        for size, wanted in zip(taken.shape, audio.shape, strict=False)
    )
    if not fits or np.dtype(taken.dtype).kind != "f":
        what = (
            f"model.audio: gives floats of {_shown(audio.shape)}, and the input {taken.name!r} "
            f"takes {taken.dtype} of {_shown(taken.shape)}"
        )
        yield Problem(document.place(("model", "audio")), what, "correct 'rate' or 'seconds'")
    shape = answer.shape
    if len(shape) != 3 or (isinstance(shape[2], int) and shape[2] != len(labels)):
        what = (
            f"model.labels: {len(labels)} labels, and the output {answer.name!r} has the shape "
            f"{_shown(shape)}, not (1, frames, labels)"
        )
        remedy = "name each symbol of the output in its order, or write 'task: tensor'"
        yield Problem(document.place(("model", "labels")), what, remedy)


def _unfit_symbols(
    given: TranscriptionSettings,
    labels: tuple[str, ...],
    function: ClassFunction | None,
    document: Document,
) -> Iterator[Problem]:
    spaces = () if given.space == " " else (given.space,)
    if function is not None:
        what = "model.function: the likeliest symbol is the same with any"
        yield Problem(document.place(("model", "function")), what, "remove it")
    for label in (given.blank, *spaces, *given.ignore):
        if label not in labels:
            what = f"model.transcription: {label!r} is not one of the labels"
            place = document.place(("model", "transcription"))
            yield Problem(place, what, suggest(label, labels))


def _unfit_labels(labels: tuple[str, ...], answer: ValueInfo) -> Iterator[tuple[str, str]]:
    shape = answer.shape
    if len(shape) != 2 or (not isinstance(shape[0], str) and shape[0] != 1):
        what = f"the output {answer.name!r} has the shape {_shown(shape)}, not (1, classes)"
        yield what, "export it so, or write 'task: tensor'"
    elif isinstance(shape[1], int) and shape[1] != len(labels):
        what = f"model.labels: {len(labels)} labels for the model's {shape[1]} classes"
        yield what, "name each class, in the order of the output"


def _unfit_detection(
    settings: DetectionSettings, labels: int, outputs: Sequence[ValueInfo]
) -> Iterator[tuple[str, str]]:
    """Each way in which outputs are not as the settings say, and a remedy."""
    shapes = {value.name: value.shape for value in outputs}
    for name in settings.outputs:
        if name not in shapes:
            yield f"model.detection: the model has no output {name!r}", suggest(name, shapes)
            return
    axis = -2 if settings.transposed else -1
    rows, width = shapes[settings.boxes], settings.width(labels)
    if len(rows) < 2 or not (isinstance(rows[axis], str) or rows[axis] == width):
        what = (
            f"model.detection: rows [{', '.join(settings.row)}] of {labels} labels have {width} "
            f"numbers, and the output {settings.boxes!r} has the shape {_shown(rows)}"
        )
        yield what, "correct 'row', 'transposed', 'background' or the labels"
    if settings.scores is not None and settings.classes is None:
        scores, columns = shapes[settings.scores], settings.columns(labels)
        if not scores or not (isinstance(scores[-1], str) or scores[-1] == columns):
            what = (
                f"model.detection: {labels} labels have {columns} scores, and the output "
                f"{settings.scores!r} has the shape {_shown(scores)}"
            )
            yield what, "correct 'background' or the labels"


def _unfit_image(image: ImageSettings, taken: ValueInfo) -> Iterator[tuple[str, str]]:
    fits = len(taken.shape) == len(image.shape) and all(
        isinstance(size, str) or size == wanted
        for size, wanted in zip(taken.shape, image.shape, strict=True)
    )
    if not fits:
        what = (
            f"model.image: gives {_shown(image.shape)}, and the input {taken.name!r} takes "
            f"{_shown(taken.shape)}"
        )
        yield what, "correct 'size', 'color' or 'layout'"
    dtype = np.dtype(taken.dtype)
    if dtype != np.uint8 and dtype.kind != "f":
        yield f"the input {taken.name!r} takes {dtype}, not pixels", "write 'task: tensor'"
    elif dtype == np.uint8 and not image.is_unscaled:
        what = f"model.image: the input {taken.name!r} takes uint8, whole numbers from 0 to 255"
        yield what, "write 'scale: 1' and leave out 'mean' and 'deviation'"


def _function(
    given: ModelSpec, graph: ir.Graph, document: Document
) -> tuple[ClassFunction, list[Problem]]:
    """What makes probabilities of the output, and what contradicts it."""
    last = _last_operator(graph.outputs[0])
    found: ClassFunction = given.function or ("none" if last == "Softmax" else "softmax")
    where, what, remedy = document.place(("model", "function")), "", ""
    if last == "Sigmoid":
        what = "the graph ends in Sigmoid: labels are independent of each other"
        remedy = "export it without its last operator and write 'function: sigmoid'"
    elif last == "Softmax" and found != "none":
        what = f"model.function: the graph ends in Softmax, and {found} would be applied again"
        remedy = "write 'function: none'"
    return found, [Problem(where, what, remedy)] if what else []


def _last_operator(value: Any) -> str:
    node = value.producer()
    while node is not None and node.op_type in _KEEP:
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return node.op_type if node is not None else ""


def _shown(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
