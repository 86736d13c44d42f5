"""Boxes: parts of images in one size, and the choice among boxes that overlap."""

from __future__ import annotations

import numpy as np

from edgeq.formats.apple.interpolation import places_of
from edgeq.formats.coreml.executor.operators.registry import Outputs, operator
from edgeq.formats.coreml.executor.operators.resizing import between
from edgeq.formats.coreml.executor.types import Array


@operator("crop_resize")
def crop_resize(
    x: Array,
    roi: Array | None = None,
    boxes: Array | None = None,
    box_indices: Array | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float | None = None,
) -> Array:
    """Each box of an image, resized as by `resize_bilinear`.

    Before iOS 16 (without `pad_value`) places outside take the nearest pixel. Before iOS 17, `roi`
    is (boxes, 1, 4, 1, 1) for all images, or (boxes, 1, 5, 1, 1) with an image's number first, and
    the result has an axis for the images of a box.
    """
    whole = roi is not None
    if roi is not None:
        given = roi[:, 0, :, 0, 0]
        numbers, boxes = (given[:, 0], given[:, 1:]) if given.shape[1] == 5 else (None, given)
        box_indices = numbers
    assert boxes is not None
    corners = _corners(boxes, box_coordinate_mode) * float(spatial_scale)
    height, width = x.shape[-2:]
    if normalized_coordinates:
        corners *= np.array([height - 1, width - 1] * 2)
    counts = int(target_height), int(target_width)
    found = []
    for index, (top, left, bottom, right) in enumerate(corners):
        rows = top + places_of(bottom - top + 1, counts[0], sampling_mode)
        columns = left + places_of(right - left + 1, counts[1], sampling_mode)
        if whole and box_indices is None:
            images = x
        else:
            number = index if box_indices is None else int(box_indices[index])
            images = x[number : number + 1]
        found.append(_cropped(images, rows, columns, pad_value))
    result = np.stack(found)
    return result if whole else result[:, 0]


def _cropped(images: Array, rows: Array, columns: Array, fill: float | None) -> Array:
    height, width = images.shape[-2:]
    if fill is None:
        rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    inside = np.outer((rows >= 0) & (rows <= height - 1), (columns >= 0) & (columns <= width - 1))
    across, down = (
        np.broadcast_to(each, (len(images), *inside.shape)) for each in np.meshgrid(columns, rows)
    )
    values = between(images, across, down, np.float32(0))
    return np.asarray(np.where(inside, values, np.float32(fill or 0)), np.float32)


def _corners(boxes: Array, mode: str) -> Array:
    """(boxes, 4): top, left, bottom, right."""
    found = boxes.astype(np.float64)
    if mode.endswith("WIDTH_FIRST"):
        found = found[:, [1, 0, 3, 2]]
    if mode.startswith("CENTER_SIZE"):
        centre, half = found[:, :2], found[:, 2:] / 2
        found = np.concatenate([centre - half, centre + half], 1)
    return found


@operator("non_maximum_suppression")
def non_maximum_suppression(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    max_boxes: int,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
) -> Outputs:
    """Boxes (centre and size) by their best score, without those that overlap a better one.

    Of iOS 17 without a threshold of scores, with boxes along the last axis, and without the number
    of boxes among the results. What is missing up to `max_boxes` is 0, and -1 as an index.
    """
    is_first = score_threshold is not None
    if not is_first:
        boxes, scores = boxes.transpose(0, 2, 1), scores.transpose(0, 2, 1)
    count = int(max_boxes)
    indices = np.full((len(boxes), count), -1, np.int32)
    for index, (own, rated) in enumerate(zip(boxes, scores, strict=True)):
        kept = _kept(own, rated, float(iou_threshold), score_threshold, bool(per_class_suppression))
        indices[index, : len(kept[:count])] = kept[:count]
    chosen = [
        np.where(indices[..., None] < 0, 0, np.take_along_axis(each, indices[..., None], axis=1))
        for each in (boxes, scores)
    ]
    if is_first:
        return chosen[0], chosen[1], indices, (indices >= 0).sum(1).astype(np.int32)
    return chosen[0].transpose(0, 2, 1), chosen[1].transpose(0, 2, 1), indices


def _kept(
    boxes: Array, scores: Array, overlap: float, least: float | None, by_class: bool
) -> list[int]:
    best, classes = scores.max(1), scores.argmax(1)
    order = np.argsort(-best, kind="stable")
    if least is not None:
        order = order[best[order] >= least]
    shares = _overlaps(boxes)
    kept: list[int] = []
    for place in order:
        rivals = [k for k in kept if not by_class or classes[k] == classes[place]]
        if not (shares[place, rivals] > overlap).any():
            kept.append(int(place))
    return kept


def _overlaps(boxes: Array) -> Array:
    """Intersection over union of each two boxes."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    common = np.maximum(sides, 0).prod(-1)
    areas = boxes[:, 2:].prod(-1)
    whole = areas[:, None] + areas[None] - common
    return np.asarray(np.divide(common, whole, out=np.zeros_like(common), where=whole > 0))
