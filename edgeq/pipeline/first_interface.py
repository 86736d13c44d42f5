"""What a first recipe declares of a model of images or recordings in an .onnx file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.frozen import Frozen
from edgeq.core.images import ImageSettings
from edgeq.core.tasks import Task
from edgeq.models.image_processor import PROCESSOR_FILE, read_image_settings
from edgeq.models.jsonfile import read_optional
from edgeq.models.labels import read_classes
from edgeq.pipeline.first_detector import detection_of, stated_image, stated_labels
from edgeq.pipeline.first_recogniser import Speech, speech_of

if TYPE_CHECKING:
    from edgeq.core.artifact import ValueInfo

LABELS_FILE = "labels.txt"
_USUAL_SIDE = 224


@dataclass(frozen=True)
class Interface:
    """labels: None if no file says them. image: from the file `stated_by`, "" if none says it.
    detection: of a detector. speech: of a recogniser."""

    classes: int
    labels: tuple[str, ...] | None
    image: ImageSettings | None
    stated_by: str
    detection: DetectionSettings | None = None
    speech: Speech | None = None

    @property
    def lacks(self) -> str:
        """What has to be in a file of labels; empty if there are some."""
        if self.labels is not None:
            return ""
        return f"the names of its {self.classes} classes in the order of the output, one per line"

    def lines(self, *, draft: bool = False) -> Iterator[str]:
        """Its keys below `model:`; with `draft`, without files."""
        labels = self.labels or (tuple(map(str, range(self.classes))) if draft else None)
        yield "  # The classes, in the order of the model's output."
        if labels is None:
            yield f"  labels: {LABELS_FILE}"
        else:
            given = f"labels: {json.dumps(labels, ensure_ascii=False)}"
            yield from textwrap.wrap(
                given,
                96,
                initial_indent="  ",
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        if self.speech is not None:
            yield "  # How a recording becomes the input and the output a text, from"
            yield f"  # {self.stated_by}."
            yield "  audio:"
            yield from _keys(self.speech.audio)
            yield "  transcription:"
            yield from _keys(self.speech.transcription)
        if self.image is not None:
            yield from self._image_lines(self.image)
        if self.detection is not None:
            yield "  # How the outputs become boxes, by their names and shapes: compare it with the"
            yield "  # code that the model came with."
            yield "  detection:"
            yield from _keys(self.detection)

    def _image_lines(self, image: ImageSettings) -> Iterator[str]:
        if self.stated_by:
            yield f"  # How an image becomes the input, from {self.stated_by}."
        else:
            yield "  # How an image becomes the input. No file says it: write what the model was"
            yield "  # trained with, or every label is a guess."
        yield "  image:"
        yield from _keys(image)


def _keys(settings: Frozen) -> Iterator[str]:
    for key, value in settings.model_dump(mode="json", exclude_none=True).items():
        yield f"    {key}: {json.dumps(value, ensure_ascii=False)}"


def interface_of(path: Path, task: Task) -> Interface:
    """Read the graph, its metadata, and transformers' files next to it or one directory above.

    Raises InvalidInput for a graph without what the task takes and gives.
    """
    from edgeq.formats.onnx.write import value_info
    from edgeq.models.graphs.imported import read_onnx

    model = read_onnx(path)
    inputs, outputs = (
        [*map(value_info, values)] for values in (model.graph.inputs, model.graph.outputs)
    )
    if task.transcribes:
        symbols = outputs[0].shape[-1] if outputs[0].shape else ""
        speech = speech_of(path, inputs[0], symbols)
        files = "preprocessor_config.json and tokenizer_config.json"
        return Interface(len(speech.labels), speech.labels, None, files, speech=speech)
    plain = _of_shape(path, inputs)
    if task.detects:
        return _of_detector(path, plain, outputs, model.metadata_props)
    classes = outputs[0].shape[-1] if len(outputs) == 1 and outputs[0].shape else None
    if not isinstance(classes, int):
        names = ", ".join(value.name for value in outputs)
        what = f"its outputs, {names}, are not scores of a known number of classes"
        raise InvalidInput(Problem(str(path), what, "add --task tensor"))
    return Interface(classes, _stated_labels(path), *_stated_image(path, plain))


def is_stated_detector(path: Path) -> bool:
    """Whether Ultralytics' exporter says so in the file."""
    from edgeq.models.graphs.imported import read_onnx

    return read_onnx(path).metadata_props.get("task") == "detect"


def _of_detector(
    path: Path, plain: ImageSettings, outputs: list[ValueInfo], metadata: Mapping[str, str]
) -> Interface:
    labels = stated_labels(metadata) or _stated_labels(path)
    detection, classes = detection_of(path, outputs, len(labels) if labels else None)
    stated = stated_image(metadata)
    if stated:
        image = ImageSettings.model_validate({**plain.model_dump(exclude_defaults=True), **stated})
        return Interface(classes, labels, image, f"the metadata of {path.name}", detection)
    return Interface(classes, labels, *_stated_image(path, plain), detection)


def _stated_labels(path: Path) -> tuple[str, ...] | None:
    config = stated_next_to(path)
    return read_classes(config, str(path.parent)).labels if config.get("id2label") else None


def _stated_image(path: Path, plain: ImageSettings) -> tuple[ImageSettings, str]:
    """The settings, and the file that states them; `plain` without one."""
    file = _next_to(path, PROCESSOR_FILE)
    if file is None:
        return plain, ""
    return read_image_settings(file).model_copy(update={"layout": plain.layout}), file.name


def a_sample(path: Path) -> dict[str, npt.NDArray[Any]]:
    """One made-up sample for each input of the graph, stacked as data files are."""
    from edgeq.formats.onnx.write import value_info
    from edgeq.formats.samples import made_up
    from edgeq.models.graphs.imported import read_onnx

    inputs = [value_info(value) for value in read_onnx(path).graph.inputs]
    sample = made_up(inputs, {}, np.random.default_rng(0), 0)
    return {name: array[None] for name, array in sample.items()}


def stated_next_to(path: Path) -> dict[str, object]:
    """The config.json that an exporter wrote with the .onnx file; empty without one."""
    file = _next_to(path, "config.json")
    return read_optional(file) if file is not None else {}


def _next_to(path: Path, name: str) -> Path | None:
    near = (path.parent / name, path.parent.parent / name)
    return next((file for file in near if file.is_file()), None)


def _of_shape(path: Path, inputs: list[ValueInfo]) -> ImageSettings:
    """The size, layout and channels of the only input."""
    shape = inputs[0].shape if len(inputs) == 1 else ()
    for layout, channels in (("NCHW", 1), ("NHWC", 3)):
        if len(shape) == 4 and shape[channels] in (1, 3):
            sides = [side for axis, side in enumerate(shape) if axis not in (0, channels)]
            size = [side if isinstance(side, int) else _USUAL_SIDE for side in sides]
            color = "RGB" if shape[channels] == 3 else "grayscale"
            return ImageSettings.model_validate({"size": size, "color": color, "layout": layout})
    shapes = ", ".join(f"{value.name} {value.shape}" for value in inputs)
    what = f"its inputs are {shapes}, not one image"
    raise InvalidInput(Problem(str(path), what, "add --task tensor"))
