"""A model of images in its own library: how it prepares them and reads boxes, next to edgeq."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeq.core.artifact import ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import Task
from edgeq.core.tasks.task import exporting
from edgeq.formats.detections import Detector
from edgeq.formats.images import prepared
from edgeq.models.image_directory import ImageDirectory, read_image_directory
from edgeq.models.image_processor import PROCESSOR_FILE
from edgeq.models.original.network import open_network, versions
from edgeq.pipeline.proof.onnx_original import OnnxOriginal, open_original

Array = npt.NDArray[Any]
_ROOM = 1e-5  # float32 sums of a pixel; a different filter or size differs by more than 1e-3
_BOX_ROOM = 1e-4  # of a score, and of a corner as a share of the image
_TURNED = 6  # by EXIF: a quarter turn
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImageOriginal(OnnxOriginal):
    """The network of a directory, with the interface of the file that was exported from it.

    detects: whether a row of each output is a box, whose place among the others has no meaning.
    """

    network: Any = None
    detects: bool = False

    @property
    def runtime(self) -> str:
        """See `OnnxOriginal.runtime`."""
        return versions("transformers", "torch")

    def run(self, feed: Mapping[str, Array], names: Sequence[str] | None = None) -> list[Array]:
        """See `OnnxOriginal.run`."""
        import torch

        given = {name: torch.from_numpy(np.asarray(array)) for name, array in feed.items()}
        with torch.inference_mode():
            answer = self.network(**given)
        return [answer[value.name].numpy() for value in self.outputs]

    def in_its_order(self, found: list[Array], wanted: Sequence[Array]) -> list[Array]:
        """See `OnnxOriginal.in_its_order`.

        Detectors that choose their boxes by score list those of equal scores in any order.
        """
        if not self.detects or [a.shape for a in found] != [b.shape for b in wanted]:
            return found
        own, others = (np.concatenate(each, -1)[0] for each in (wanted, found))
        apart = np.abs(own[:, None].astype(np.float64) - others[None]).max(2)
        order = []
        for row in apart:
            order.append(int(row.argmin()))
            apart[:, order[-1]] = np.inf  # rows may be equal, and each has one place
        return [array[:, order] for array in found]


def open_image_original(path: Path, file: Path, task: Task) -> ImageOriginal:
    """The model in the directory `path`, of which `file` is the export.

    Raises InvalidInput if its library prepares images or reads boxes differently than edgeq.
    """
    directory, exported = read_image_directory(path, str(path), task), open_original(file)
    require_same_pixels(directory, exported.inputs[0])
    network = open_network(directory, task)
    if directory.detection is not None:
        require_same_boxes(directory, network, exported.inputs[0])
    return ImageOriginal(
        file,
        exported.session,
        exported.inputs,
        exported.outputs,
        network=network,
        detects=task.detects,
    )


def require_same_pixels(directory: ImageDirectory, value: ValueInfo) -> None:
    """Raise InvalidInput, naming the image, where the library's processor gives other inputs."""
    import transformers

    processor = _processor(directory)
    for name, content in _hard_images():
        opened = transformers.image_utils.load_image(Image.open(BytesIO(content)))
        wanted = processor(opened, return_tensors="np")["pixel_values"]
        found = prepared(content, directory.image, value, name)
        same = found.shape == wanted.shape
        worst = float(np.abs(found - wanted).max()) if same else float("inf")
        if not worst <= _ROOM * max(1.0, float(np.abs(wanted).max())):
            what = f"the library prepares {name} differently: pixels differ by {worst:.1e}"
            remedy = "report it with this file; or export it and write model.image yourself"
            raise InvalidInput(Problem(str(directory.path / PROCESSOR_FILE), what, remedy))


def require_same_boxes(directory: ImageDirectory, network: Any, value: ValueInfo) -> None:
    """Raise InvalidInput where the library's processor finds other boxes in a network's answer."""
    import torch

    assert directory.detection is not None
    name, content = next(_hard_images())
    pixels, size = (
        prepared(content, directory.image, value, name),
        Image.open(BytesIO(content)).size,
    )
    with torch.inference_mode():
        answer = network(**{value.name: torch.from_numpy(pixels)})
    height_width = (size[1], size[0])
    (wanted,) = _processor(directory).post_process_object_detection(
        answer, threshold=0.0, target_sizes=[height_width]
    )
    outputs = {each: answer[each].numpy() for each in directory.detection.outputs}
    detector = Detector(directory.detection, directory.image, directory.classes)
    found = detector.found(outputs, height_width, threshold=0.0)
    rows = [_rows(wanted["labels"], wanted["scores"], wanted["boxes"], size)]
    rows.append(_rows(found.labels, found.scores, found.boxes, size))
    apart = np.abs(rows[0][:, None] - rows[1][None]).max(2, initial=0.0)
    if rows[0].shape != rows[1].shape or not (apart.min(1, initial=np.inf) <= _BOX_ROOM).all():
        what = f"the library reads other boxes in its outputs for {name}"
        remedy = f"report it with this file; or {exporting(directory.path, 'object-detection')}"
        raise InvalidInput(Problem(str(directory.path / "config.json"), what, remedy))


def _rows(labels: Any, scores: Any, boxes: Any, size: tuple[int, int]) -> Array:
    """A row for each box: label, score, and its corners in shares of the image, within it."""
    shares = np.clip(np.asarray(boxes, np.float64) / (size * 2), 0, 1)
    parts = (np.asarray(labels, np.float64), np.asarray(scores, np.float64))
    return np.concatenate([np.stack(parts, 1), shares], 1)


def _processor(directory: ImageDirectory) -> Any:
    import transformers

    return transformers.AutoImageProcessor.from_pretrained(
        directory.path, local_files_only=True, trust_remote_code=False, use_fast=False
    )


def _hard_images() -> Iterator[tuple[str, bytes]]:
    """Images that are easily misread, as the bytes of files."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (301, 199, 4), np.uint8)
    turned = Image.Exif()
    turned[_ORIENTATION] = _TURNED
    color = Image.fromarray(pixels[..., :3])
    yield "an image of odd sides", _file(color, "PNG")
    yield "an image that is small and wide", _file(color.resize((97, 31)), "PNG")
    yield "an image that is turned by EXIF", _file(color, "JPEG", exif=turned)
    yield "a grey image", _file(color.convert("L"), "PNG")
    yield "an image with alpha", _file(Image.fromarray(pixels), "PNG")
    yield "an image with a palette", _file(color.quantize(16), "PNG")


def _file(image: Image.Image, format: str, **more: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **more)
    return buffer.getvalue()
