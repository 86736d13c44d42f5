"""A classifier of images in its own library, and its preprocessing compared with edgeq's."""

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
from edgeq.core.tasks import IMAGE_CLASSIFICATION
from edgeq.formats.images import prepared
from edgeq.models.image_directory import ImageDirectory, read_image_directory
from edgeq.models.image_processor import PROCESSOR_FILE
from edgeq.models.original.network import open_network, versions
from edgeq.pipeline.proof.onnx_original import OnnxOriginal, open_original

Array = npt.NDArray[Any]
_ROOM = 1e-5  # float32 sums of a pixel; a different filter or size differs by more than 1e-3
_TURNED = 6  # by EXIF: a quarter turn
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImageOriginal(OnnxOriginal):
    """The network of a directory, with the interface of the file that was exported from it."""

    network: Any = None

    @property
    def runtime(self) -> str:
        """See `OnnxOriginal.runtime`."""
        return versions("transformers", "torch")

    def run(self, feed: Mapping[str, Array], names: Sequence[str] | None = None) -> list[Array]:
        """See `OnnxOriginal.run`."""
        import torch

        given = {name: torch.from_numpy(np.asarray(array)) for name, array in feed.items()}
        with torch.inference_mode():
            return [self.network(**given).logits.numpy()]


def open_image_original(path: Path, file: Path) -> ImageOriginal:
    """The model in the directory `path`, of which `file` is the export.

    Raises InvalidInput if its library prepares images differently than edgeq.
    """
    directory, exported = read_image_directory(path, str(path)), open_original(file)
    require_same_pixels(directory, exported.inputs[0])
    network = open_network(directory, IMAGE_CLASSIFICATION)
    return ImageOriginal(
        file,
        exported.session,
        exported.inputs,
        exported.outputs,
        network=network,
    )


def require_same_pixels(directory: ImageDirectory, value: ValueInfo) -> None:
    """Raise InvalidInput, naming the image, where the library's processor gives other inputs."""
    import transformers

    processor = transformers.AutoImageProcessor.from_pretrained(
        directory.path, local_files_only=True, trust_remote_code=False, use_fast=False
    )
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
