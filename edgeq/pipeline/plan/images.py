"""Classifiers for Core ML in a plan: input images and output labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core.audio import AudioSettings
from edgeq.core.errors import Problem
from edgeq.core.images import ImageSettings
from edgeq.core.tasks import task_of
from edgeq.core.validation_messages import suggest
from edgeq.core.yamlfile import Document
from edgeq.recipe.labels import read_labels

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeq.formats.coreml.write_images import Image
    from edgeq.recipe.schema import CoremlSpec, Recipe

_RANK = 4  # axes of an image: (1, channels, height, width)


def image_of(spec: CoremlSpec) -> Image | None:
    """The image input."""
    from edgeq.formats.coreml.write_images import Image

    given = spec.image
    return Image(given.input, given.scale, given.bias, given.color) if given else None


def labels_of(recipe: Recipe, path: Path) -> tuple[str, ...]:
    """The names of the classes; empty if there are none. path: of the recipe."""
    labels = recipe.coreml.labels
    return read_labels(path.parent / labels) if labels else ()


def fixed_shape(
    shape: Iterable[object], given: ImageSettings | AudioSettings | None
) -> tuple[int, ...]:
    """An input's shape without free sizes: those of `given`, or 1.

    >>> fixed_shape(("n", 3, "h", "w"), ImageSettings(size=(48, 192)))
    (1, 3, 48, 192)
    """
    free: Iterable[int] = given.shape if given is not None else itertools.repeat(1)
    return tuple(
        own if isinstance(own, int) else size for own, size in zip(shape, free, strict=False)
    )


def _no_image(image: Image, shapes: Iterable[tuple[object, ...]], where: str) -> Iterator[Problem]:
    """What is wrong with the shapes of an image input."""
    for shape in shapes:
        if len(shape) != _RANK or shape[1] != image.channels:
            sizes = ", ".join(map(str, shape))
            what = f"coreml.image.input: {image.input!r} has the shape ({sizes})"
            yield Problem(where, what, f"an image has (1, {image.channels}, height, width)")
        elif any(not isinstance(size, int) for size in shape[2:]):
            what = f"coreml.image.input: {image.input!r} leaves its height or width open"
            remedy = f"add coreml.inputs: {{{image.input}: [1, {image.channels}, 224, 224]}}"
            yield Problem(where, what, remedy)


def misfits(recipe: Recipe, document: Document, graph: ir.Graph | None) -> Iterator[Problem]:
    """Problems of an image or labels that do not fit the graph."""
    spec = recipe.coreml
    if graph is None or not (spec.image or spec.labels):
        return
    if task_of(recipe.model.task).takes != "arrays":
        return
    image = image_of(spec)
    if image is not None:
        shapes = {value.name or "": tuple(value.shape or ()) for value in graph.inputs}
        where = document.place(("coreml", "image", "input"))
        if image.input not in shapes:
            what = f"coreml.image.input: the model has no input {image.input!r}"
            yield Problem(where, what, suggest(image.input, list(shapes)))
        else:
            possible = spec.inputs.get(image.input, (shapes[image.input],))
            yield from itertools.islice(_no_image(image, possible, where), 1)
    classes = tuple(graph.outputs[0].shape or ())[-1:]
    labels = labels_of(recipe, document.path)
    if labels and classes and isinstance(classes[0], int) and classes[0] != len(labels):
        what = f"coreml.labels: {len(labels)} labels for the model's {classes[0]} classes"
        where = document.place(("coreml", "labels"))
        yield Problem(where, what, "give one label per line, one for each class")
