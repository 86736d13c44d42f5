"""The declared interface of an .onnx file, compared with its graph."""

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
from edgeq.core.tasks import Task, task_of
from edgeq.core.terms import TEXT_INPUTS
from edgeq.core.validation_messages import suggest
from edgeq.core.yamlfile import Document
from edgeq.models.detector import FREE
from edgeq.models.huggingface import (
    ModelDirectory,
    TextFiles,
    read_text_files,
    with_dimension,
)
from edgeq.models.model import DescribedModel
from edgeq.recipe.checks.interface import labels_of
from edgeq.recipe.schema import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

_TEXT_AXES, _TOKEN_AXES = 2, 3  # (texts, values) and (texts, tokens, values)
_KEEP = ("Identity", "Cast", "Reshape", "Squeeze", "Flatten")  # values stay what they are


def with_interface(model: DescribedModel, given: ModelSpec, document: Document) -> DescribedModel:
    """The model with the interface that the recipe declares, unless it comes from a directory.

    Raises InvalidInput where it does not fit the graph, or the tokenizer cannot be read.
    """
    task = task_of(given.task)
    if given.dimension is not None and model.directory is not None:
        return replace(model, directory=_shortened(model.directory, given.dimension, document))
    if model.images is not None and given.detection is not None:
        return replace(model, detection=_changed(model, given.detection, document))
    declares = model.located.is_file and model.images is None
    if not declares or not (task.reads_texts or task.has_labels):
        return model
    if given.source.kind != "file":
        what = f"model.source: {given.source} has no model directory, but an .onnx file"
        remedy = f"give its path, and declare its interface: source: {model.located.path}"
        raise InvalidInput(Problem(document.place(("model", "source")), what, remedy))
    graph = model.graph
    assert graph is not None
    problems = [*_of_one_answer(given, graph, document)]
    classes, count = None, 1 if task.ranks else None
    labels: tuple[str, ...] = ()
    if task.has_labels:
        labels = labels_of(given, document.path)
        function = given.function or "none"
        if given.transcription is not None:
            problems += _unfit_symbols(given.transcription, labels, given.function, document)
        elif given.detection is None:
            function, contradictions = _function(given, graph, document)
            problems += contradictions
        classes, count = Classes(labels=labels, function=function), len(labels)
    if not problems:
        answer = value_info_of(graph.outputs[0])
        if given.audio is not None:
            taken = value_info_of(graph.inputs[0])
            problems += _unfit_audio(given.audio, labels, taken, answer, document)
        elif given.detection is not None:
            problems += _misfits_of_boxes(given, graph, len(labels), document)
        else:
            problems += _unfit_answer(task, answer, count, document)
        problems += _unfit_inputs(task, given, graph, document)
    if problems:
        raise InvalidInput(problems)
    files = None
    if task.reads_texts:
        where = document.place(("model", "tokenizer"))
        files = read_text_files(document.path.parent / str(given.tokenizer), where)
        files = with_dimension(files, given.dimension)
        _require_head(task, model, graph, files, where)
    return replace(
        model, classes=classes, tokenizer=files, image=given.image, detection=given.detection
    )


def _shortened(directory: ModelDirectory, dimension: int, document: Document) -> ModelDirectory:
    """Raises InvalidInput for more values than a vector of the model has."""
    if dimension > directory.dimension:
        what = f"model.dimension: the model's vectors have {directory.dimension} values"
        where = document.place(("model", "dimension"))
        raise InvalidInput(Problem(where, what, "write less, or leave it out"))
    return with_dimension(directory, dimension)


def _changed(
    model: DescribedModel, given: DetectionSettings, document: Document
) -> DetectionSettings:
    """Raises InvalidInput where a directory's files state other outputs than the recipe."""
    assert model.detection is not None
    own, other = (each.model_dump(exclude=set(FREE)) for each in (model.detection, given))
    for key, value in own.items():
        if other[key] != value:
            what = f"model.detection: {key} is {other[key]!r}, and {value!r} by config.json"
            where = document.place(("model", "detection"))
            raise InvalidInput(Problem(where, what, f"correct it; {', '.join(FREE)} are yours"))
    return given


def value_info_of(value: ir.Value) -> ValueInfo:
    """Name, type and shape of an input or output."""
    from edgeq.formats.onnx.write import value_info

    return value_info(value)


def _of_one_answer(given: ModelSpec, graph: ir.Graph, document: Document) -> Iterator[Problem]:
    kinds: dict[str, Any] = {"output": graph.outputs if given.detection is None else [None]}
    if not task_of(given.task).reads_texts:
        kinds["input"] = graph.inputs
    for noun, values in kinds.items():
        if len(values) != 1:
            names = ", ".join(value.name or "" for value in values)
            what = f"{given.source} has {len(values)} {noun}s: {names}; {given.task} needs one"
            remedy = f"export it with one {noun}, or write 'task: tensor'"
            yield Problem(document.place(("model", "source")), what, remedy)


def _unfit_answer(
    task: Task, answer: ValueInfo, count: int | None, document: Document
) -> Iterator[Problem]:
    """count: of values for each answer, None for any that the file states."""
    shape, rows = answer.shape, "(1, classes)" if task.classifies else "(1, width)"
    rows = "(1, tokens, labels)" if task.tags else rows
    where = document.place(("model", "labels" if task.has_labels else "source"))
    axes = (_TEXT_AXES, _TOKEN_AXES) if task.has_sentence_head else (rows.count(",") + 1,)
    if len(shape) not in axes or not (isinstance(shape[0], str) or shape[0] == 1):
        what = f"the output {answer.name!r} has the shape {_shown(shape)}, not {rows}"
        yield Problem(where, what, "export it so, or write 'task: tensor'")
    elif task.has_labels and isinstance(shape[-1], int) and shape[-1] != count:
        what = f"model.labels: {count} labels for the model's {shape[-1]} classes"
        yield Problem(where, what, "name each class, in the order of the output")
    elif not task.has_labels and (not isinstance(shape[-1], int) or count not in (None, shape[-1])):
        wanted = "one score" if task.ranks else "a vector of known width"
        what = f"the output {answer.name!r} has the shape {_shown(shape)}, not {wanted}"
        yield Problem(where, what, "export it so, or write 'task: tensor'")


def _unfit_inputs(
    task: Task, given: ModelSpec, graph: ir.Graph, document: Document
) -> Iterator[Problem]:
    inputs = [value_info_of(value) for value in graph.inputs]
    if given.image is not None:
        place = document.place(("model", "image"))
        yield from (Problem(place, *words) for words in _unfit_image(given.image, inputs[0]))
    for value in inputs if task.reads_texts else ():
        remedy = f"export it with {', '.join(TEXT_INPUTS)} of any length, or write 'task: tensor'"
        free = [size for size in value.shape if isinstance(size, str)]
        if value.name not in TEXT_INPUTS or not np.issubdtype(np.dtype(value.dtype), np.integer):
            what = f"{given.source}: no text becomes the input {value.name!r}, {value.dtype}"
            yield Problem(document.place(("model", "source")), what, remedy)
        elif len(value.shape) != _TEXT_AXES or value.shape[-1] not in free:
            what = f"{given.source}: the input {value.name!r} has the shape {_shown(value.shape)}"
            yield Problem(document.place(("model", "source")), what, remedy)


def _require_head(
    task: Task, model: DescribedModel, graph: ir.Graph, files: TextFiles, where: str
) -> None:
    """Raise InvalidInput where no file says how token vectors become the vector of a text."""
    if not task.has_sentence_head:
        return
    if not files.head.files:
        what = f"{files.path} has no modules.json, which says how tokens become one vector"
        remedy = "save it: SentenceTransformer(MODEL).save_pretrained(DIR)"
        raise InvalidInput(Problem(where, what, remedy))
    answer = value_info_of(graph.outputs[0]).shape
    if len(answer) == _TOKEN_AXES and "attention_mask" not in {v.name for v in graph.inputs}:
        what = f"{model.located.path.name} gives a vector for each token, and takes no mask of them"
        raise InvalidInput(Problem(where, what, "export it with the input attention_mask"))
    width = answer[-1]
    assert isinstance(width, int)
    described = files.head.width(width // len(files.head.poolings))
    if len(answer) == _TEXT_AXES and width != described:
        what = f"{model.located.path.name} gives {width} values, {files.path} says {described}"
        raise InvalidInput(Problem(where, what, "export the model that the files describe"))


def _misfits_of_boxes(
    given: ModelSpec, graph: ir.Graph, labels: int, document: Document
) -> Iterator[Problem]:
    assert given.detection is not None
    place, outputs = document.place(("model", "detection")), [*map(value_info_of, graph.outputs)]
    found = _unfit_detection(given.detection, labels, outputs)
    yield from (Problem(place, *words) for words in found)
    if given.function == "softmax" and given.detection.names_class:
        what = "model.function: softmax needs a score for each label"
        yield Problem(document.place(("model", "function")), what, "remove it")


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
    if found == "sigmoid" and task_of(given.task).tags:
        what, remedy = "model.function: a token has one label", "remove it"
    elif last == "Sigmoid":
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
