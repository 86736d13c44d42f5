"""Operators of images: convolutions, pools, norms of channels, sizes, regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.support.apple_cases.base import Case, Draw, Numbers, f32, i64, of

_CONVOLVED = {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"}


@of("Conv", "ConvTranspose")
def _convolved(draw: Draw, n: Numbers, kind: str) -> Case:
    rank, groups = n.one_of(1, 2), n.one_of(1, 2)

    def each(low: int, high: int) -> list[int]:
        return list(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))

    kernel, strides = each(1, 3), each(1, 3)
    attributes: dict[str, Any] = {"strides": strides, "group": groups}
    automatic = n.one_of("NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if automatic == "NOTSET":
        sides = [min(side, size - 1) for side, size in zip(each(0, 2), kernel, strict=True)]
        attributes |= {"pads": sides * 2, "dilations": each(1, 2)}
    else:
        attributes["auto_pad"] = automatic
    shape = [4, 3, *kernel] if kind == "ConvTranspose" else [6, 4 // groups, *kernel]
    if kind == "ConvTranspose" and automatic == "NOTSET":
        attributes["output_padding"] = [n.one_of(0, stride - 1) for stride in strides]
    if kind == "ConvTranspose" and automatic.startswith("SAME"):
        attributes["strides"] = [min(a, b) for a, b in zip(strides, kernel, strict=True)]
    outputs = 3 * groups if kind == "ConvTranspose" else 6
    bias = n.one_of(None, n.floats(outputs))
    return Case([n.floats(2, 4, *[7] * rank)], [n.floats(*shape), bias], attributes)


@of("MaxPool", "AveragePool")
def _pooled(draw: Draw, n: Numbers, kind: str) -> Case:
    rank = n.one_of(1, 2)
    kernel = [n.one_of(2, 3) for _ in range(rank)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [n.one_of(1, 2, 3) for _ in range(rank)],
    }
    automatic = n.one_of("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    if automatic == "NOTSET":
        attributes |= {"pads": [n.one_of(0, 1) for _ in range(2 * rank)]}
        attributes["ceil_mode"] = n.one_of(0, 1)
    else:
        attributes["auto_pad"] = automatic
    if kind == "AveragePool":
        attributes["count_include_pad"] = n.one_of(0, 1)
    return Case([n.floats(1, 2, *[7] * rank)], [], attributes)


@of("GlobalAveragePool", "GlobalMaxPool")
def _whole(draw: Draw, n: Numbers, kind: str) -> Case:
    return Case([n.floats(2, 3, *n.shape(1, 2))])


@of("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN")
def _channel_norm(draw: Draw, n: Numbers, kind: str) -> Case:
    x, epsilon = n.floats(2, 4, 5, *n.one_of((), (3,))), {"epsilon": n.one_of(1e-5, 1e-2)}
    scale, shift = n.floats(4), n.floats(4)
    if kind == "LRN":
        return Case(
            [n.floats(2, 4, 5, 3)], [], {"size": n.one_of(1, 3, 5), "alpha": 0.5, "bias": 2.0}
        )
    if kind == "BatchNormalization":
        return Case([x], [scale, shift, n.floats(4), np.abs(n.floats(4))], epsilon)
    if kind == "GroupNormalization":
        groups, opset = n.one_of(1, 2, 4), n.one_of(20, 21)
        parts = [scale, shift] if opset == 21 else [scale[:groups], shift[:groups]]
        return Case([x], list(parts), {**epsilon, "num_groups": groups}, opset=opset)
    return Case([x], [scale, shift], epsilon)


@of("DepthToSpace", "SpaceToDepth")
def _blocks(draw: Draw, n: Numbers, kind: str) -> Case:
    if kind == "SpaceToDepth":
        return Case([n.floats(2, 3, 4, 6)], [], {"blocksize": 2})
    return Case([n.floats(2, 8, 2, 3)], [], {"blocksize": 2, "mode": n.one_of("DCR", "CRD")})


@of("Resize")
def _resized(draw: Draw, n: Numbers, kind: str) -> Case:
    mode = n.one_of("nearest", "linear", "linear", "cubic")
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": n.one_of(
            "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"
        ),
    }
    if mode == "nearest":
        attributes["nearest_mode"] = n.one_of("floor", "ceil", "round_prefer_floor")
    if mode != "nearest" and draw(st.booleans()):
        attributes["antialias"] = 1
        attributes["coordinate_transformation_mode"] = "half_pixel"
    x = n.floats(1, 2, 5, 4)
    if draw(st.booleans()):
        scales = np.array([1, 1, n.one_of(0.6, 2, 3), n.one_of(0.5, 1, 2)], np.float32)
        return Case([x], [None, scales], attributes)
    sizes = i64(1, 2, n.one_of(3, 5, 10), n.one_of(2, 4, 7))
    return Case([x], [None, None, sizes], attributes)


@of("GridSample")
def _grid_sample(draw: Draw, n: Numbers, kind: str) -> Case:
    opset = n.one_of(16, 20)
    word = {16: "bilinear", 20: "linear"}[opset]
    attributes = {
        "mode": n.one_of("nearest", word, word),
        "padding_mode": n.one_of("zeros", "border", "reflection"),
        "align_corners": n.one_of(0, 1),
    }
    grid = n.rng.uniform(-1.6, 1.6, (2, 4, 5, 2)).astype(np.float32)
    return Case([n.floats(2, 3, 5, 4), grid], [], attributes, opset=opset)


@of("AffineGrid")
def _affine_grid(draw: Draw, n: Numbers, kind: str) -> Case:
    sizes = n.one_of((4, 3), (2, 3, 4))
    theta = n.floats(2, len(sizes), len(sizes) + 1)
    return Case([theta], [i64(2, 3, *sizes)], {"align_corners": n.one_of(0, 1)})


@of("RoiAlign")
def _regions(draw: Draw, n: Numbers, kind: str) -> Case:
    begins = n.rng.uniform(-6, 12, (4, 2))
    boxes = np.concatenate([begins, begins + n.rng.uniform(0.2, 12, (4, 2))], 1)
    attributes = {
        "output_height": n.one_of(1, 3),
        "output_width": n.one_of(2, 3),
        "sampling_ratio": n.one_of(1, 2),
        "spatial_scale": n.one_of(1.0, 0.5),
    }
    opset = n.one_of(10, 16)
    if opset == 16 and draw(st.booleans()):
        attributes["coordinate_transformation_mode"] = n.one_of("half_pixel", "output_half_pixel")
    numbers = n.rng.integers(0, 2, 4, np.int64)
    return Case(
        [n.floats(2, 3, 6, 7), boxes.astype(np.float32), numbers], [], attributes, opset=opset
    )


@of("NonMaxSuppression")
def _suppressed(draw: Draw, n: Numbers, kind: str) -> Case:
    centred = n.one_of(0, 1)
    boxes = np.concatenate([n.rng.uniform(0, 3, (2, 8, 2)), n.rng.uniform(0.3, 2, (2, 8, 2))], -1)
    if not centred:
        boxes[..., 2:] += boxes[..., :2]
        boxes[:, ::2] = boxes[:, ::2][..., [2, 3, 0, 1]]  # any two opposite corners
    scores = n.rng.permutation(48).reshape(2, 3, 8) / 48
    given = [boxes.astype(np.float32), scores.astype(np.float32)]
    limits = [i64(n.one_of(2, 20)), f32(n.one_of(0.1, 0.5)), n.one_of(None, f32(0.3), f32(2))]
    return Case(given, [*limits], {"center_point_box": centred})


@of("Col2Im")
def _folded(draw: Draw, n: Numbers, kind: str) -> Case:
    rows, columns, side = n.one_of(1, 2), n.one_of(2, 3), n.one_of(2, 3)
    x = n.floats(2, 3 * side * side, rows * columns)
    sizes = i64(rows * side, columns * side)
    return Case([x], [sizes, i64(side, side)], {"strides": [side, side]})
