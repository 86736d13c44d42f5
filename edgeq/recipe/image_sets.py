"""Data sets of files, images or recordings: a directory with them, or with one subdirectory of them
for each label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem

ANNOTATIONS_FILE = "annotations.json"
"""Of a detector's data set: the boxes on its images, in the format of COCO."""
TRANSCRIPTS_FILE = "transcripts.tsv"
"""Of a recogniser's data set: the columns file and text."""
AUDIO_SUFFIXES = (".wav",)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_SUFFIXES = (*IMAGE_SUFFIXES, *AUDIO_SUFFIXES)
_BESIDE = (ANNOTATIONS_FILE, TRANSCRIPTS_FILE)
PREPARED_ARRAYS = "arrays.npz"
PREPARED_RECORD = "images.json"


@dataclass(frozen=True)
class ImageFile:
    """One image or recording. name: its path in the directory. label: the name of its
    subdirectory, if any."""

    path: Path
    name: str
    label: str | None

    @property
    def is_audio(self) -> bool:
        """Whether it is a recording."""
        return self.path.suffix.lower() in AUDIO_SUFFIXES


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
    sizes: tuple[tuple[int, int], ...] = Field(
        default=(), description="Height and width of each image."
    )
    boxes: tuple[tuple[TrueBox, ...], ...] | None = Field(
        default=None, description="The right boxes of each image; null if there are none."
    )
    texts: tuple[str, ...] | None = Field(
        default=None, description="What is said in each recording; null if that is not known."
    )


def list_images(folder: Path) -> tuple[ImageFile, ...]:
    """Every image or recording, sorted by its name.

    Raises InvalidInput for anything else, for both kinds in one directory, and for images with and
    without labels.
    """
    if not folder.is_dir():
        what = "is not a directory of images or recordings"
        remedy = "put .png and .jpg files in one, or .wav files"
        raise InvalidInput(Problem(str(folder), what, remedy))
    found = tuple(sorted(_below(folder), key=lambda image: image.name))
    if not found:
        raise InvalidInput(Problem(str(folder), "has no files", "add .png, .jpg or .wav files"))
    if len({image.is_audio for image in found}) > 1:
        what = "has images and recordings"
        raise InvalidInput(Problem(str(folder), what, "put them into separate directories"))
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
        if path.name.startswith(".") or (label is None and path.name in _BESIDE):
            continue
        if path.is_dir() and label is None:
            yield from _below(path, path.name)
        elif path.suffix.lower() in _SUFFIXES and path.is_file():
            name = path.name if label is None else f"{label}/{path.name}"
            yield ImageFile(path, name, label)
        else:
            what = f"{path} is not an image or recording that edgeq reads: {', '.join(_SUFFIXES)}"
            remedy = "convert it to PNG or WAV, or remove it"
            raise InvalidInput(Problem(str(folder), what, remedy))
