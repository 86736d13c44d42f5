"""ONNX operators of places in images and of boxes: sampling grids, regions, suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.graph import Translator, Value, handles

_ALL = np.iinfo(np.int32).max // 2  # beyond any axis
_HOW = {"linear": "bilinear", "bilinear": "bilinear", "nearest": "nearest"}
_PADDING = {"zeros": "constant", "border": "border"}


@handles("GridSample")
def _grid_sample(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    x, grid = args
    aligned = bool(node.attributes.get_int("align_corners", 0))
    how, around = (
        str(node.attributes.get_string(key, word))
        for key, word in (("mode", "linear"), ("padding_mode", "zeros"))
    )
    if len(t.shape(x)) != 4:
        raise ValueError("its images are not flat")
    if how not in _HOW:
        raise ValueError(f"it is {how}")
    # About the centres of the outer pixels, or about the image's edge.
    reflected = "reflection" if aligned else "symmetric"
    return _sampled(t, str(node.name), x, grid, _HOW[how], _PADDING.get(around, reflected), aligned)


def _sampled(
    t: Translator, name: str, x: Value, grid: Value, how: str, around: str, aligned: bool
) -> Any:
    """Places, (column, row) between -1 and 1, in float32: float16 does not know pixels apart."""
    image = x if isinstance(x, np.ndarray) else t.writer.cast(x, "fp32")
    found = t.writer.in_float32(
        "resample",
        name,
        x=image,
        coordinates=grid,
        sampling_mode=how,
        padding_mode=around,
        padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=aligned,
    )
    return t.writer.cast(found, t.writer.precision(name))


@handles("AffineGrid")
def _affine_grid(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """An even grid, a row for each place, times each image's matrix."""
    theta, (count, _, *sizes) = args[0], t.numbers(args[1])
    aligned = bool(node.attributes.get_int("align_corners", 0))
    ends = [1.0 if aligned else 1 - 1 / size for size in sizes]
    lines = [np.linspace(-end, end, size) for end, size in zip(ends, sizes, strict=True)]
    grid = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(sizes)], -1)
    rows = grid.reshape(1, -1, grid.shape[-1]).astype(np.float32)
    places = t.writer.in_float32(
        "matmul",
        f"{node.name}.places",
        x=np.repeat(rows, count, axis=0),
        y=theta,
        transpose_y=True,
    )
    shape = [count, *sizes, len(sizes)]
    return t.writer.in_float32("reshape", str(node.name), x=places, shape=shape)


@handles("RoiAlign")
def _aligned_regions(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """Means of points in every cell; a point more than a pixel outside counts as 0."""
    x, boxes, numbers = args
    name, read = str(node.name), node.attributes
    points = read.get_int("sampling_ratio", 0)
    if str(read.get_string("mode", "avg")) != "avg" or points < 1:
        raise ValueError("it takes the largest of points, or as many as a box needs")
    usual = "half_pixel" if t.opset >= 16 else "output_half_pixel"
    half = str(read.get_string("coordinate_transformation_mode", usual)) == "half_pixel"
    scale = read.get_float("spatial_scale", 1.0)
    sizes = [int(size) for size in t.shape(x)[2:]]
    counts = [read.get_int(f"output_{side}", 1) * points for side in ("height", "width")]
    rows = _points(t, f"{name}.rows", boxes, 1, counts[0], (scale, half, sizes[0]))
    columns = _points(t, f"{name}.columns", boxes, 0, counts[1], (scale, half, sizes[1]))
    images = t.emit("gather", f"{name}.images", x=x, indices=numbers, axis=0)
    places = _crossed(t, name, rows[0], columns[0])
    found = _sampled(t, f"{name}.points", images, places, "bilinear", "border", True)
    for word, (_, near), axes in (("down", rows, [1, 3]), ("across", columns, [1, 2])):
        wide = t.emit("expand_dims", f"{name}.near.{word}", x=near, axes=axes)
        found = t.emit("mul", f"{name}.kept.{word}", x=found, y=wide)
    return t.emit(
        "avg_pool",
        name,
        x=found,
        kernel_sizes=[points, points],
        strides=[points, points],
        pad_type="valid",
        exclude_padding_from_average=False,
        ceil_mode=False,
    )


def _crossed(t: Translator, name: str, rows: Any, columns: Any) -> Any:
    """(boxes, rows, columns, 2): each column with each row."""
    emit = t.writer.in_float32
    down = emit("expand_dims", f"{name}.down", x=rows, axes=[2, 3])
    across = emit("expand_dims", f"{name}.across", x=columns, axes=[1, 3])
    nothing = np.zeros((1, t.shape(rows)[1], t.shape(columns)[1], 1), np.float32)
    parts = [
        emit("add", f"{name}.{word}.whole", x=part, y=nothing)
        for word, part in (("across", across), ("down", down))
    ]
    return emit("concat", f"{name}.crossed", values=parts, axis=-1)


def _points(
    t: Translator,
    name: str,
    boxes: Value,
    side: int,
    count: int,
    settings: tuple[float, bool, int],
) -> tuple[Any, Any]:
    """(boxes, count): points of boxes along a side, between -1 and 1; and 1 for those that count.

    settings: pixels for each of the boxes' units, whether pixels have their centres at halves, and
    the image's size.
    """
    scale, half, size = settings
    emit = t.writer.in_float32
    low, high = (
        emit("slice_by_index", f"{name}.{n}", x=boxes, begin=[0, n], end=[_ALL, n + 1],
             begin_mask=[True, False], end_mask=[True, False])
        for n in (side, side + 2)
    )  # fmt: skip
    shift = -0.5 if half else 0.0
    low, high = (
        emit("add", f"{name}.pixel.{n}", x=emit("mul", f"{name}.scaled.{n}", x=e, y=scale), y=shift)
        for n, e in enumerate((low, high))
    )
    length = emit("sub", f"{name}.length", x=high, y=low)
    if not half:
        length = emit("maximum", f"{name}.least", x=length, y=1.0)
    steps = ((np.arange(count) + 0.5) / count).astype(np.float32)[None]
    places = emit("add", name, x=low, y=emit("mul", f"{name}.steps", x=length, y=steps))
    centre = emit("sub", f"{name}.middle", x=places, y=(size - 1) / 2)
    away = emit("abs", f"{name}.away", x=centre)
    near = t.writer.in_float32("less_equal", f"{name}.near", x=away, y=(size + 1) / 2)
    # With one pixel, border padding answers whatever the place is.
    share = emit("mul", f"{name}.share", x=centre, y=2 / max(1, size - 1))
    return share, t.writer.cast(near, t.writer.precision(name))


@handles("NonMaxSuppression")
def _suppress(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """(boxes, 3): image, class and number of every box kept, as many as there are.

    Apple's operator keeps a fixed number for each of its rows, here a class of an image; unused
    places are -1.
    """
    boxes, scores, most, overlap, least = [*args, None, None, None][:5]
    if most is None or overlap is None:
        raise ValueError("it has no number of boxes, or no limit of their overlap")
    name, emit = str(node.name), t.writer.in_float32
    images, classes, count = (int(size) for size in t.shape(scores))
    kept = min(int(t.array(most).reshape(-1)[0]), count)
    if kept < 1:
        raise ValueError("it keeps no box")
    given = boxes if node.attributes.get_int("center_point_box", 0) else _centred(t, name, boxes)
    found = emit(
        "non_maximum_suppression",
        f"{name}.best",
        boxes=_of_each_class(t, name, given, (images, classes, count)),
        scores=emit("reshape", f"{name}.each", x=scores, shape=[images * classes, 1, count]),
        iou_threshold=float(t.array(overlap).reshape(-1)[0]),
        max_boxes=kept,
    )
    places = emit("reshape", f"{name}.places", x=found[2], shape=[-1])
    valid = emit("greater_equal", f"{name}.valid", x=places, y=np.int32(0))
    if least is not None:
        rated = emit("reshape", f"{name}.rated", x=found[1], shape=[-1])
        floor = float(t.array(least).reshape(-1)[0])
        above = emit("greater", f"{name}.above", x=rated, y=floor)
        valid = emit("logical_and", f"{name}.both", x=valid, y=above)
    labels = np.stack(np.unravel_index(np.arange(images * classes), (images, classes)), -1)
    labels = np.repeat(labels, kept, axis=0).astype(np.int32)
    column = emit("expand_dims", f"{name}.column", x=places, axes=[1])
    rows = emit("concat", f"{name}.rows", values=[labels, column], axis=1)
    chosen = emit("non_zero", f"{name}.chosen", x=t.writer.cast(valid, "int32"))
    return emit("gather_nd", name, x=rows, indices=chosen)


def _of_each_class(t: Translator, name: str, boxes: Value, counts: tuple[int, int, int]) -> Any:
    """(images × classes, 4, boxes)."""
    emit, (images, classes, count) = t.writer.in_float32, counts
    turned = emit("transpose", f"{name}.turned", x=boxes, perm=[0, 2, 1])
    apart = emit("expand_dims", f"{name}.apart", x=turned, axes=[1])
    tiled = emit("tile", f"{name}.tiled", x=apart, reps=[1, classes, 1, 1])
    return emit("reshape", f"{name}.of_each", x=tiled, shape=[images * classes, 4, count])


def _centred(t: Translator, name: str, boxes: Value) -> Any:
    """Centres and sizes of boxes that are two opposite corners each."""
    emit = t.writer.in_float32
    first, second = emit("split", f"{name}.corners", x=boxes, num_splits=2, axis=2)
    total = emit("add", f"{name}.total", x=first, y=second)
    middle = emit("mul", f"{name}.middle", x=total, y=0.5)
    size = emit("abs", f"{name}.size", x=emit("sub", f"{name}.sides", x=second, y=first))
    return emit("concat", f"{name}.centred", values=[middle, size], axis=2)
