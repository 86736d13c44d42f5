"""The declared interface of a classifier in an .onnx file, compared with its graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.core.artifact import Classes, ClassFunction, ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.images import ImageSettings
from edgeq.core.tasks import task_of
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
    if not model.located.is_file or not task_of(given.task).classifies:
        return model
    from edgeq.models.graphs.imported import read_onnx

    graph = read_onnx(model.located.path).graph
    labels = labels_of(given, document.path)
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
    for noun, values in (("input", graph.inputs), ("output", graph.outputs)):
        if len(values) != 1:
            names = ", ".join(value.name or "" for value in values)
            what = f"{file} has {len(values)} {noun}s: {names}; {given.task} needs one"
            remedy = f"export it with one {noun}, or write 'task: tensor'"
            yield Problem(document.place(("model", "source")), what, remedy)
            return
    taken, answer = value_info(graph.inputs[0]), value_info(graph.outputs[0])
    shape = answer.shape
    place = document.place(("model", "labels"))
    if len(shape) != 2 or (not isinstance(shape[0], str) and shape[0] != 1):
        what = f"the output {answer.name!r} has the shape {_shown(shape)}, not (1, classes)"
        yield Problem(place, what, "export it so, or write 'task: tensor'")
    elif isinstance(shape[1], int) and shape[1] != len(labels):
        what = f"model.labels: {len(labels)} labels for the model's {shape[1]} classes"
        yield Problem(place, what, "name each class, in the order of the output")
    if given.image is not None:
        place = document.place(("model", "image"))
        yield from (Problem(place, *words) for words in _unfit_image(given.image, taken))


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
