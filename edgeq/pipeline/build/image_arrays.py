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
from edgeq.formats.images import prepared
from edgeq.recipe import data_sets
from edgeq.recipe.image_sets import PREPARED_ARRAYS, PREPARED_RECORD, ImageFile, PreparedImages

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
    images = data_sets.chosen_images(folder, samples)
    _refuse_many(folder, len(images), settings, value)
    digests = [canonical.sha256_of_file(image.path) for image in images]
    key = {
        "images": [[image.name, digest] for image, digest in zip(images, digests, strict=True)],
        "settings": settings.model_dump(mode="json"),
        "input": value.model_dump(mode="json"),
        "by": importlib.metadata.version("pillow"),
    }

    def make(destination: Path) -> None:
        progress(f"prepare {len(images)} images")
        rows = [prepared(each.path, settings, value, str(each.path))[0] for each in images]
        inputs: dict[str, Any] = {value.name: np.stack(rows)}
        np.savez(destination / PREPARED_ARRAYS, **inputs)
        record = _record(images, digests).model_dump(mode="json")
        write_text(destination / PREPARED_RECORD, canonical.to_json(record))

    return store.stage("images", key, make, describe=folder.name)


def _refuse_many(folder: Path, count: int, settings: ImageSettings, value: ValueInfo) -> None:
    each = int(np.prod(settings.shape)) * np.dtype(value.dtype).itemsize
    if count * each > _MOST:
        what = f"{count} images become {format_bytes(count * each)} of inputs"
        raise InvalidInput(Problem(str(folder), what, f"write 'samples: {_MOST // each}'"))


def _record(images: list[ImageFile], digests: list[str]) -> PreparedImages:
    first: dict[str, str] = {}
    for image, digest in zip(images, digests, strict=True):
        first.setdefault(digest, image.name)
    labels = [image.label for image in images if image.label is not None]
    names = tuple(first[digest] for digest in digests)
    return PreparedImages(names=names, labels=tuple(labels) or None)
