"""The boxes on a data set's images: `annotations.json` next to them, in COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import read_bytes
from edgeq.recipe.file_sets import ANNOTATIONS_FILE, DataFile, TrueBox

_MOST_BYTES = 1 << 30
_Side = Annotated[FiniteFloat, Field(ge=0)]


class _Image(BaseModel):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(BaseModel):
    id: int
    name: str


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, _Side, _Side]
    iscrowd: Literal[0, 1] = 0


class _Coco(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def has_annotations(folder: Path) -> bool:
    """Whether the boxes of its images are known."""
    return (folder / ANNOTATIONS_FILE).is_file()


def read_annotations(
    folder: Path, images: Sequence[DataFile]
) -> tuple[tuple[tuple[TrueBox, ...], ...], tuple[tuple[int, int] | None, ...]]:
    """The boxes on each image, and its height and width if they are stated.

    Raises InvalidInput for a file that is not COCO's, and for an image that it does not list.
    """
    path = folder / ANNOTATIONS_FILE
    try:
        coco = _Coco.model_validate_json(read_bytes(path, _MOST_BYTES, "keep fewer images"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = f"is not COCO's format: {place}: {first['msg']}"
        remedy = (
            "give images (id, file_name), annotations (image_id, category_id, bbox), categories"
        )
        raise InvalidInput(Problem(str(path), what, remedy)) from None
    names = {each.id: each.name for each in coco.categories}
    listed = {each.file_name: each for each in coco.images}
    boxes: dict[int, list[TrueBox]] = {}
    for index, each in enumerate(coco.annotations):
        if each.category_id not in names:
            what = f"annotations.{index}: no category has the id {each.category_id}"
            raise InvalidInput(Problem(str(path), what, "add it to categories"))
        left, top, width, height = each.bbox
        box = TrueBox(
            label=names[each.category_id],
            box=(left, top, left + width, top + height),
            is_crowd=bool(each.iscrowd),
        )
        boxes.setdefault(each.image_id, []).append(box)
    lost = next((image.name for image in images if image.name not in listed), None)
    if lost is not None:
        what = f"no entry of images has the file_name {lost!r}"
        raise InvalidInput(Problem(str(path), what, "add it, or move the image elsewhere"))
    own = [listed[image.name] for image in images]
    sizes = ((each.height, each.width) for each in own)
    return (
        tuple(tuple(boxes.get(each.id, ())) for each in own),
        tuple((high, wide) if high and wide else None for high, wide in sizes),
    )
