"""Small copies of the images on which a detector finds other boxes, to draw them on."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Iterable
from pathlib import Path

from edgeq.pipeline.check.verdict import Verdict
from edgeq.recipe.file_sets import list_files

_SIDE = 480


def redrawn_images(folder: Path, verdicts: Iterable[Verdict]) -> dict[str, str]:
    """Each of those images in `folder` as a data: address, by name; none without Pillow."""
    names = {
        each.image
        for verdict in verdicts
        if (quality := verdict.measurement.quality) is not None
        for each in quality.redrawn
    }
    if not names or not importlib.util.find_spec("PIL"):
        return {}
    return {each.name: _small(each.path) for each in list_files(folder) if each.name in names}


def _small(path: Path) -> str:
    from edgeq.formats.images import opened

    image = opened(path, str(path)).convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
