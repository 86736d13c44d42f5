"""Data sets of images or recordings: a directory, or one with a subdirectory for each label.

What is known of each may be in a file next to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import require_utf8

ANNOTATIONS_FILE = "annotations.json"
"""The file of a detector's data set with the boxes on its images, in COCO's format."""
TRANSCRIPTS_FILE = "transcripts.tsv"
"""The file of a recogniser's data set with the columns file and text."""
KNOWLEDGE = (ANNOTATIONS_FILE, TRANSCRIPTS_FILE)
AUDIO_SUFFIXES = (".wav",)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_SUFFIXES = (*IMAGE_SUFFIXES, *AUDIO_SUFFIXES)
PREPARED_ARRAYS = "arrays.npz"
PREPARED_RECORD = "files.json"


@dataclass(frozen=True)
class DataFile:
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


class PreparedFiles(Frozen):
    """Written next to the model's inputs that were computed from files, in their order."""

    names: tuple[str, ...] = Field(description="Copies of a file have the name of the first.")
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


def list_files(folder: Path) -> tuple[DataFile, ...]:
    """Every image or recording, sorted by its name.

    Raises InvalidInput for anything else, for both kinds in one directory, and for images with and
    without labels.
    """
    if not folder.is_dir():
        what = "is not a directory of images or recordings"
        remedy = "put .png and .jpg files in one, or .wav files"
        raise InvalidInput(Problem(str(folder), what, remedy))
    found = tuple(sorted(_below(folder), key=lambda file: file.name))
    if not found:
        raise InvalidInput(Problem(str(folder), "has no files", "add .png, .jpg or .wav files"))
    if len({file.is_audio for file in found}) > 1:
        what = "has images and recordings"
        raise InvalidInput(Problem(str(folder), what, "put them into separate directories"))
    if len({file.label is None for file in found}) > 1:
        loose = next(file.name for file in found if file.label is None)
        what = f"{loose} is in no subdirectory, so it has no label, and others have one"
        raise InvalidInput(Problem(str(folder), what, "move it into the directory of its label"))
    return found


def read_prepared(folder: Path) -> PreparedFiles:
    """The record of prepared files."""
    return PreparedFiles.model_validate_json((folder / PREPARED_RECORD).read_bytes())


def _below(folder: Path, label: str | None = None) -> Iterator[DataFile]:
    for path in folder.iterdir():
        if path.name.startswith(".") or (label is None and path.name in KNOWLEDGE):
            continue
        if path.is_dir() and label is None:
            require_utf8(path.name, str(path))
            yield from _below(path, path.name)
        elif path.suffix.lower() in _SUFFIXES and path.is_file():
            require_utf8(path.name, str(path))
            name = path.name if label is None else f"{label}/{path.name}"
            yield DataFile(path, name, label)
        else:
            what = f"{path} is not an image or recording that edgeq reads: {', '.join(_SUFFIXES)}"
            remedy = "convert it to PNG or WAV, or remove it"
            raise InvalidInput(Problem(str(folder), what, remedy))
