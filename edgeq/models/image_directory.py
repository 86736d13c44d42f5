"""A model of images in Hugging Face layout: its files, labels, and how images go in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.core.artifact import Classes
from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.images import ImageSettings
from edgeq.core.tasks import Task
from edgeq.models.detector import read_detection
from edgeq.models.huggingface import licence_of, own_config
from edgeq.models.image_processor import PROCESSOR_FILE, read_image_settings
from edgeq.models.labels import read_classes, read_labels
from edgeq.models.names import ExpertPart
from edgeq.models.weight_files import TensorFacts, read_tensors, refuse_quantized, weight_files


@dataclass(frozen=True)
class ImageDirectory:
    """What `edgeq.models.original.network` opens, and how an image becomes its input.

    detection: how a detector's outputs become boxes; None for a classifier.
    """

    path: Path
    config: dict[str, Any]
    tensors: dict[str, TensorFacts]
    weight_files: tuple[Path, ...]
    classes: Classes
    image: ImageSettings
    licence: str | None
    detection: DetectionSettings | None = None
    stored_names: Mapping[str, str] = field(default_factory=dict)
    stacked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    of_experts: Mapping[str, ExpertPart] = field(default_factory=dict)
    extended: Mapping[str, int] = field(default_factory=dict)
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def source_files(self) -> tuple[Path, ...]:
        """Every file whose content affects the build."""
        return (*self.weight_files, self.path / "config.json", self.path / PROCESSOR_FILE)


def read_image_directory(path: Path, where: str, task: Task) -> ImageDirectory:
    """Facts about the model in `path`; `where` is the place in the recipe that errors name.

    Raises InvalidInput for files that are missing, damaged or not understood, pickled or already
    quantized weights, and custom code.
    """
    config = own_config(path, where)
    detection = None
    if task.detects:
        detection, function = read_detection(config, path, where)
        classes = Classes(labels=read_labels(config, where), function=function)
    else:
        classes = read_classes(config, where)
    if not (path / PROCESSOR_FILE).is_file():
        what = f"{path} has no {PROCESSOR_FILE}, which says how an image becomes the input"
        remedy = "save it: AutoImageProcessor.from_pretrained(MODEL).save_pretrained(DIR)"
        raise InvalidInput(Problem(where, what, remedy))
    files = weight_files(path, where)
    tensors = read_tensors(files)
    for name, facts in tensors.items():
        refuse_quantized(name, facts, where)
    image = read_image_settings(path / PROCESSOR_FILE)
    licence = licence_of(path)
    return ImageDirectory(path, config, tensors, files, classes, image, licence, detection)
