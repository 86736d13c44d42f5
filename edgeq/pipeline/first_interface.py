"""What a first recipe declares of an .onnx file."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.frozen import Frozen
from edgeq.core.images import ImageSettings
from edgeq.core.tasks import TASKS, Task
from edgeq.core.yamlfile import yaml_word
from edgeq.models.detector import FREE, read_detection
from edgeq.models.image_processor import PROCESSOR_FILE, read_image_settings
from edgeq.models.jsonfile import read_optional
from edgeq.models.labels import read_classes
from edgeq.models.locate import Located
from edgeq.models.stated_task import task_of_config
from edgeq.models.tokenizer_settings import TOKENIZER
from edgeq.pipeline.first_detector import detection_of, listed_labels, stated_image, stated_labels
from edgeq.pipeline.first_recogniser import Speech, speech_of

if TYPE_CHECKING:
    from edgeq.core.artifact import ValueInfo

LABELS_FILE = "labels.txt"
CONFIG_FILE = "config.json"
_USUAL_SIDE = 224
_PIXELS = "pixel_values"
"""transformers' name for an image, of which exporters leave even the number of colours open."""


@dataclass(frozen=True)
class Interface:
    """classes: of its answer, 0 for none. labels: None if no file says them.

    image: from the file `stated_by`, "" if none says it; None for texts. detection: of a detector.
    speech: of a recogniser. tokenizer: its directory.
    """

    classes: int = 0
    labels: tuple[str, ...] | None = None
    image: ImageSettings | None = None
    stated_by: str = ""
    detection: DetectionSettings | None = None
    speech: Speech | None = None
    tokenizer: Path | None = None

    @property
    def lacks(self) -> str:
        """What has to be in a file of labels; empty if there are some, or none are needed."""
        if self.labels is not None or not self.classes:
            return ""
        return f"the names of its {self.classes} classes in the order of the output, one per line"

    def lines(self, base: Path, *, draft: bool = False) -> Iterator[str]:
        """Its keys below `model:` of a recipe in `base`; with `draft`, without files."""
        if self.tokenizer is not None:
            yield "  # How a text becomes the input: tokenizer.json and the settings next to it."
            path = self.tokenizer.resolve().as_posix()
            if not draft:
                path = Path(os.path.relpath(path, base.resolve())).as_posix()
            yield f"  tokenizer: {yaml_word(path)}"
        if self.classes:
            yield from self._labels(draft)
        if self.speech is not None:
            yield "  # How a recording becomes the input and the output a text, from"
            yield f"  # {self.stated_by}."
            yield "  audio:"
            yield from _keys(self.speech.audio)
            yield "  transcription:"
            yield from _keys(self.speech.transcription)
        if self.image is not None:
            yield from self._image(self.image)
        if self.detection is not None:
            if self.stated_by == CONFIG_FILE:
                yield "  # How the outputs become boxes, by the directory's config.json;"
                yield f"  # {', '.join(FREE)} are yours to change."
            else:
                yield "  # How the outputs become boxes, by their names and shapes: compare it with"
                yield "  # the code that the model came with."
            yield "  detection:"
            yield from _keys(self.detection)

    def _labels(self, draft: bool) -> Iterator[str]:
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

    def _image(self, image: ImageSettings) -> Iterator[str]:
        if self.stated_by:
            yield f"  # How an image becomes the input, from {self.stated_by}."
        else:
            yield "  # How an image becomes the input. No known file says it: write"
            yield "  # what the model was trained with, or every label is a guess."
        yield "  image:"
        without = () if image.resize == "fit" else ("align",)
        is_filled = image.resize == "fit" or image.has_border
        yield from _keys(image, without if is_filled else (*without, "fill"))


def _keys(settings: Frozen, without: Sequence[str] = ()) -> Iterator[str]:
    given = settings.model_dump(mode="json", exclude_none=True, exclude=set(without))
    for key, value in given.items():
        yield f"    {key}: {json.dumps(value, ensure_ascii=False)}"


def interface_of(path: Path, task: Task) -> Interface:
    """Read the graph, its metadata, and transformers' files next to it or one directory above.

    Raises InvalidInput for a graph that does not fit the task.
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
    if task.reads_texts:
        tokenizer = _next_to(path, TOKENIZER)
        if tokenizer is None:
            what = f"there is no {TOKENIZER} next to it, which {task.noun} needs"
            raise InvalidInput(Problem(str(path), what, "copy it there, or add --task tensor"))
        if not task.has_labels:
            return Interface(tokenizer=tokenizer.parent)
        classes, labels = _classes(path, outputs), _stated_labels(path)
        return Interface(classes, labels, tokenizer=tokenizer.parent)
    plain = _of_shape(path, inputs)
    if task.detects:
        return _of_detector(path, plain, outputs, model.metadata_props)
    classes = _classes(path, outputs)
    labels = _stated_labels(path) or listed_labels(model.metadata_props, classes)
    return Interface(classes, labels, *_stated_image(path, plain))


def interface_of_model(located: Located, task: Task) -> Interface | None:
    """What a recipe declares of a model's interface. Raises InvalidInput as `interface_of` does."""
    if located.is_file and (task.takes_files or task.reads_texts):
        return interface_of(located.path, task)
    return interface_of_directory(located.path, task)


def interface_of_directory(path: Path, task: Task) -> Interface | None:
    """What a recipe may change of a directory's interface; None for nothing."""
    if not task.detects:
        return None
    detection, _ = read_detection(read_optional(path / CONFIG_FILE), path, str(path))
    return Interface(detection=detection, stated_by=CONFIG_FILE)


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
    """The settings, and the file that states them; `plain` without one that is understood."""
    file = _next_to(path, PROCESSOR_FILE)
    if file is None:
        return plain, ""
    try:
        stated = read_image_settings(file)
    except InvalidInput:
        return plain, ""
    return stated.model_copy(update={"layout": plain.layout}), file.name


def _classes(path: Path, outputs: Sequence[ValueInfo]) -> int:
    """The number of classes that the graph scores."""
    count = outputs[0].shape[-1] if len(outputs) == 1 and outputs[0].shape else None
    if isinstance(count, int):
        return count
    names = ", ".join(value.name for value in outputs)
    what = f"its outputs, {names}, are not scores of a known number of classes"
    raise InvalidInput(Problem(str(path), what, "add --task tensor"))


def stated_task(path: Path) -> Task | None:
    """The task of an .onnx file by the files next to it; None where they do not say one."""
    meant = task_of_config(stated_next_to(path))
    if _next_to(path, "modules.json") is not None:
        meant = next(task for task in TASKS.values() if task.has_sentence_head)
    if meant is None or (meant.reads_texts and _next_to(path, TOKENIZER) is None):
        return None
    return None if meant.generates else meant


def a_sample(path: Path) -> dict[str, npt.NDArray[Any]]:
    """One made-up sample for each input of the graph, stacked as data files are."""
    from edgeq.formats.samples import made_up

    sample = made_up(_inputs(path), {}, np.random.default_rng(0), 0)
    return {name: array[None] for name, array in sample.items()}


def rows_of(path: Path) -> str:
    """The arrays that a data file for the graph has, in words."""
    return ", ".join(
        f"{value.name}, {value.dtype} of the shape (samples, "
        + ", ".join(str(size) if isinstance(size, int) else "any" for size in value.shape)
        + ")"
        for value in _inputs(path)
    )


def _inputs(path: Path) -> list[ValueInfo]:
    from edgeq.formats.onnx.write import value_info
    from edgeq.models.graphs.imported import read_onnx

    return [value_info(value) for value in read_onnx(path).graph.inputs]


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
    if inputs[0].name == _PIXELS and len(shape) == 4:
        shape = (shape[0], 3, *shape[2:])
    for layout, channels in (("NCHW", 1), ("NHWC", 3)):
        if len(shape) == 4 and shape[channels] in (1, 3):
            sides = [side for axis, side in enumerate(shape) if axis not in (0, channels)]
            size = [side if isinstance(side, int) else _USUAL_SIDE for side in sides]
            color = "RGB" if shape[channels] == 3 else "grayscale"
            return ImageSettings.model_validate({"size": size, "color": color, "layout": layout})
    shapes = ", ".join(f"{value.name} {value.shape}" for value in inputs)
    what = f"its inputs are {shapes}, not one image"
    raise InvalidInput(Problem(str(path), what, "add --task tensor"))
