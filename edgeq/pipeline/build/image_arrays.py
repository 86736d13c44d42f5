"""Images of a data set as the model's inputs, computed once."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import canonical
from edgeq.core.artifact import ValueInfo
from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.files import write_text
from edgeq.core.images import ImageSettings
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.core.units import format_bytes
from edgeq.formats.images import opened, prepared
from edgeq.recipe import data_sets
from edgeq.recipe.annotations import has_annotations, read_annotations
from edgeq.recipe.file_sets import (
    ANNOTATIONS_FILE,
    PREPARED_ARRAYS,
    PREPARED_RECORD,
    DataFile,
    PreparedFiles,
    TrueBox,
)

_MOST = 2 << 30  # bytes of arrays, which passes hold in memory


def prepared_images(
    folder: Path,
    samples: int | None,
    settings: ImageSettings,
    value: ValueInfo,
    store: Store,
    progress: Progress,
) -> Path:
    """A directory with the inputs of the images in `folder`, and their names and labels.

    value: the model's input. Raises InvalidInput for what cannot be read, Missing without Pillow.
    """
    if not importlib.util.find_spec("PIL"):
        raise missing_extra("pillow", "images", "read images")
    images = data_sets.chosen_files(folder, samples)
    refuse_many(folder, len(images), settings.shape, value)
    is_annotated = has_annotations(folder)
    digests = [canonical.sha256_of_file(image.path) for image in images]
    key = {
        "images": [[image.name, digest] for image, digest in zip(images, digests, strict=True)],
        "settings": settings.model_dump(mode="json"),
        "input": value.model_dump(mode="json"),
        "by": importlib.metadata.version("pillow"),
        "boxes": canonical.sha256_of_file(folder / ANNOTATIONS_FILE) if is_annotated else None,
    }

    def make(destination: Path) -> None:
        progress(f"prepare {len(images)} images")
        rows, sizes = [], []
        for each in images:
            picture = opened(each.path, str(each.path))
            rows.append(prepared(picture, settings, value, str(each.path))[0])
            sizes.append((picture.height, picture.width))
        inputs: dict[str, Any] = {value.name: np.stack(rows)}
        np.savez(destination / PREPARED_ARRAYS, **inputs)
        boxes = _boxes(folder, images, sizes) if is_annotated else None
        record = _record(images, digests, sizes, boxes).model_dump(mode="json")
        write_text(destination / PREPARED_RECORD, canonical.to_json(record))

    return store.stage("images", key, make, describe=folder.name)


def refuse_many(folder: Path, count: int, shape: tuple[int, ...], value: ValueInfo) -> None:
    """Raise InvalidInput for more inputs of this shape than passes can hold in memory."""
    each = int(np.prod(shape)) * np.dtype(value.dtype).itemsize
    if count * each > _MOST:
        what = f"{count} files become {format_bytes(count * each)} of inputs"
        raise InvalidInput(Problem(str(folder), what, f"write 'samples: {_MOST // each}'"))


def _boxes(
    folder: Path, images: list[DataFile], sizes: list[tuple[int, int]]
) -> tuple[tuple[TrueBox, ...], ...]:
    boxes, stated = read_annotations(folder, images)
    for image, size, own in zip(images, sizes, stated, strict=True):
        if own is not None and own != size:
            high, wide = size
            what = f"{image.name} has {wide} × {high} pixels once turned, not {own[1]} × {own[0]}"
            where = str(folder / ANNOTATIONS_FILE)
            raise InvalidInput(Problem(where, what, "give boxes in the pixels of the image"))
    return boxes


def _record(
    images: list[DataFile],
    digests: list[str],
    sizes: list[tuple[int, int]],
    boxes: tuple[tuple[TrueBox, ...], ...] | None,
) -> PreparedFiles:
    labels = [image.label for image in images if image.label is not None]
    names = first_names(images, digests)
    return PreparedFiles(names=names, labels=tuple(labels) or None, sizes=tuple(sizes), boxes=boxes)


def first_names(files: list[DataFile], digests: list[str]) -> tuple[str, ...]:
    """The name of each file, or of the first with the same bytes."""
    first: dict[str, str] = {}
    for file, digest in zip(files, digests, strict=True):
        first.setdefault(digest, file.name)
    return tuple(first[digest] for digest in digests)
