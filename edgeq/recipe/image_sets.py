"""Data sets of images: a directory with them, or with one subdirectory of them for each label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem

ANNOTATIONS_FILE = "annotations.json"
"""Of a detector's data set: the boxes on its images, in the format of COCO."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
PREPARED_ARRAYS = "arrays.npz"
PREPARED_RECORD = "images.json"


@dataclass(frozen=True)
class ImageFile:
    """One image. name: its path in the directory. label: the name of its subdirectory, if any."""

    path: Path
    name: str
    label: str | None


class TrueBox(Frozen):
    """An object in an image. box: left, top, right and bottom in pixels. is_crowd: a box around
    several, in which none is missed and none found counts against a detector."""

    label: str
    box: tuple[float, float, float, float]
    is_crowd: bool = False


class PreparedImages(Frozen):
    """Written next to the model's inputs that were computed from images, in their order."""

    names: tuple[str, ...] = Field(description="Copies of an image have the name of the first.")
    labels: tuple[str, ...] | None = Field(description="The right labels; null if there are none.")
    sizes: tuple[tuple[int, int], ...] = Field(description="Height and width of each image.")
    boxes: tuple[tuple[TrueBox, ...], ...] | None = Field(
        default=None, description="The right boxes of each image; null if there are none."
    )


def list_images(folder: Path) -> tuple[ImageFile, ...]:
    """Every image, sorted by its name.

    Raises InvalidInput for anything that is not an image, and for images with and without labels.
    """
    if not folder.is_dir():
        what = "is not a directory of images"
        remedy = "put .png and .jpg files in one, in subdirectories named by their labels"
        raise InvalidInput(Problem(str(folder), what, remedy))
    found = tuple(sorted(_below(folder), key=lambda image: image.name))
    if not found:
        raise InvalidInput(Problem(str(folder), "has no images", "add .png or .jpg files"))
    if len({image.label is None for image in found}) > 1:
        loose = next(image.name for image in found if image.label is None)
        what = f"{loose} is in no subdirectory, so it has no label, and others have one"
        raise InvalidInput(Problem(str(folder), what, "move it into the directory of its label"))
    return found


def read_prepared(folder: Path) -> PreparedImages:
    """The record of prepared images."""
    return PreparedImages.model_validate_json((folder / PREPARED_RECORD).read_bytes())


def _below(folder: Path, label: str | None = None) -> Iterator[ImageFile]:
    for path in folder.iterdir():
        if path.name.startswith(".") or (label is None and path.name == ANNOTATIONS_FILE):
            continue
        if path.is_dir() and label is None:
            yield from _below(path, path.name)
        elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            name = path.name if label is None else f"{label}/{path.name}"
            yield ImageFile(path, name, label)
        else:
            what = f"{path} is not an image that edgeq reads: {', '.join(IMAGE_SUFFIXES)}"
            remedy = "convert it to PNG, or remove it"
            raise InvalidInput(Problem(str(folder), what, remedy))
