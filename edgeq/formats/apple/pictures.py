"""ONNX operators of image models: resizing, moving channels to pixels, norms of channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from edgeq.formats.apple.graph import Translator, Value, handles
from edgeq.formats.apple.interpolation import MODES, bilinear
from edgeq.models.onnx_session import open_graph
from edgeq.quantize.number_formats import Floats

_OPSET = 19
_TRIED = (10, 14)  # for a size that is not known
_CENTRES = {
    "UNALIGN_CORNERS": {"align_corners": False, "half_pixel_centers": True},
    "STRICT_ALIGN_CORNERS": {"align_corners": True, "half_pixel_centers": False},
    "DEFAULT": {"align_corners": False, "half_pixel_centers": False},
}
"""The settings of `upsample_bilinear` by the sampling mode of `resize_bilinear`."""


@handles("Resize")
def _resize(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """The operator itself for common cases; else values are chosen, or mixed by a matrix."""
    shape = t.shape(args[0])
    if not all(isinstance(size, int | np.integer) for size in shape):
        return _by_factors(t, node, args)
    matrices = _matrices(t, node, args, [int(size) for size in shape])
    result, name = args[0], str(node.name)
    if len(shape) == 4 and not matrices.keys() - {2, 3}:
        height, width = (
            matrices.get(axis, np.eye(int(shape[axis]), dtype=np.float32)) for axis in (2, 3)
        )
        factors = [_repeats(matrix) for matrix in (height, width)]
        if all(factors):
            sizes = dict(zip(("scale_factor_height", "scale_factor_width"), factors, strict=True))
            return t.emit("upsample_nearest_neighbor", name, x=result, **sizes)
        for mode in MODES:
            if all(_is_bilinear(matrix, mode) for matrix in (height, width)):
                sizes = {"target_size_height": len(height), "target_size_width": len(width)}
                return t.emit("resize_bilinear", name, x=result, sampling_mode=mode, **sizes)
    for axis, matrix in matrices.items():
        result = _along(t, f"{name}.{axis}", result, axis, matrix)
    return result


def _by_factors(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """An image of any size, of which two are tried."""
    shape, x, name = t.shape(args[0]), args[0], str(node.name)
    pairs = []
    for tried in _TRIED:
        known = [size if isinstance(size, int | np.integer) else tried for size in shape]
        matrices = _matrices(t, node, args, [int(size) for size in known])
        if len(shape) != 4 or matrices.keys() != {2, 3}:
            raise ValueError("it resizes other axes of an image of any size")
        pairs.append((matrices[2], matrices[3]))
    factors = {(_repeats(rows), _repeats(columns)) for rows, columns in pairs}
    names = ("scale_factor_height", "scale_factor_width")
    if len(factors) == 1 and all(min(factors)):
        return t.emit(
            "upsample_nearest_neighbor", name, x=x, **dict(zip(names, *factors, strict=True))
        )
    for mode, how in _CENTRES.items():
        if all(_is_bilinear(matrix, mode) for pair in pairs for matrix in pair):
            sides = [float(len(matrix) / matrix.shape[1]) for matrix in pairs[0]]
            return t.emit(
                "upsample_bilinear", name, x=x, **dict(zip(names, sides, strict=True)), **how
            )
    raise ValueError("a size depends on the input: build for one shape")


def _matrices(
    t: Translator, node: ir.Node, args: list[Value], shape: list[int]
) -> dict[int, Floats]:
    """The matrix of each axis that changes."""
    attributes = {attribute.name: attribute.value for attribute in node.attributes.values()}
    if attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise ValueError("it crops")
    if attributes.pop("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ValueError("it keeps the aspect ratio")
    axes = attributes.pop("axes", range(len(shape)))
    _, _, scales, sizes = [*args, None, None, None][:4]
    given = sizes if sizes is not None and t.shape(sizes)[0] else scales
    numbers = t.known(given)
    if numbers is None:
        raise ValueError("its sizes depend on the input: build for one shape")
    found = {}
    for axis, number in zip(axes, numbers.reshape(-1), strict=True):
        place, size = int(axis) % len(shape), shape[axis]
        if number != (size if given is sizes else 1):
            found[place] = _of_axis(size, number, attributes, by_size=given is sizes)
    return found


def _of_axis(size: int, number: Any, attributes: dict[str, Any], *, by_size: bool) -> Floats:
    """What onnxruntime makes of a unit matrix."""
    names = ["x", "", "", "n"] if by_size else ["x", "", "n"]
    numbers = [1, 1, int(number), size] if by_size else [1, 1, float(number), 1]
    kind = onnx.TensorProto.INT64 if by_size else onnx.TensorProto.FLOAT
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Resize", names, ["y"], **attributes)],
        "resize",
        [helper.make_tensor_value_info("x", float32, [1, 1, size, size])],
        [helper.make_tensor_value_info("y", float32, None)],
        [helper.make_tensor("n", kind, [4], numbers)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    session = open_graph(model.SerializeToString(), Path(), threads=1)
    (result,) = session.run(None, {"x": np.eye(size, dtype=np.float32)[None, None]})
    matrix: Floats = result[0, 0]
    return matrix


def _chosen(matrix: Floats) -> Any:
    """Which value each row takes, if it takes one; else None."""
    places = matrix.argmax(1)
    return places if np.array_equal(matrix, np.eye(matrix.shape[1])[places]) else None


def _repeats(matrix: Floats) -> int:
    """How often each value is repeated; 0 for another matrix."""
    factor = len(matrix) // matrix.shape[1]
    places = _chosen(matrix)
    same = places is not None and len(matrix) == factor * matrix.shape[1]
    return factor if same and np.array_equal(places, np.arange(len(matrix)) // factor) else 0


def _is_bilinear(matrix: Floats, mode: str) -> bool:
    count, size = matrix.shape
    return np.allclose(matrix, bilinear(size, count, mode), rtol=0, atol=1e-5)


def _along(t: Translator, name: str, x: Value, axis: int, matrix: Floats) -> Any:
    places = _chosen(matrix)
    if places is not None:
        return t.emit("gather", name, x=x, indices=places.astype(np.int32), axis=axis)
    rank = len(t.shape(x))
    if axis == rank - 1:
        return t.emit("matmul", name, x=x, y=matrix.T)
    if axis == rank - 2:
        return t.emit("matmul", name, x=matrix, y=x)
    order = [n for n in range(rank) if n != axis] + [axis]
    moved = t.emit("transpose", f"{name}.moved", x=x, perm=order)
    mixed = t.emit("matmul", f"{name}.mixed", x=moved, y=matrix.T)
    return t.emit("transpose", name, x=mixed, perm=[int(n) for n in np.argsort(order)])


@handles("DepthToSpace", "SpaceToDepth")
def _blocks(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    size = node.attributes["blocksize"].as_int()
    name = str(node.name)
    if node.op_type == "SpaceToDepth":
        return t.emit("space_to_depth", name, x=args[0], block_size=size)
    if str(node.attributes.get_string("mode", "DCR")) == "CRD":
        return t.emit("pixel_shuffle", name, x=args[0], upscale_factor=size)
    return t.emit("depth_to_space", name, x=args[0], block_size=size)


@handles("Col2Im")
def _folded(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """Blocks next to one another, as phones' transformers make and join them."""
    sizes, block = t.numbers(args[1]), t.numbers(args[2])
    steps = list(node.attributes.get_ints("strides", [1] * len(block)))
    around = any(node.attributes.get_ints("pads", []))
    is_spread = any(step > 1 for step in node.attributes.get_ints("dilations", []))
    if len(block) != 2 or block[0] != block[1] or steps != block or around or is_spread:
        raise ValueError("its blocks are not squares next to one another")
    count, width, _ = (int(n) for n in t.shape(args[0]))
    shape = [count, width, *(size // side for size, side in zip(sizes, block, strict=True))]
    parts = t.emit("reshape", f"{node.name}.blocks", x=args[0], shape=shape)
    return t.emit("pixel_shuffle", str(node.name), x=parts, upscale_factor=block[0])


@handles("InstanceNormalization", "GroupNormalization")
def _channel_norm(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """Each group's values in a row, whose mean becomes 0 and whose variance 1."""
    x, scale, shift = args
    name, sizes = str(node.name), [int(n) for n in t.shape(x)]
    count, channels, *places = sizes
    groups = node.attributes.get_int("num_groups", channels)
    per_channel = [1, channels] + [1] * len(places)
    rows = t.emit("reshape", f"{name}.rows", x=x, shape=[count, groups, -1])
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    normed = t.emit("layer_norm", f"{name}.normed", x=rows, axes=[-1], epsilon=epsilon)
    back = t.emit("reshape", f"{name}.places", x=normed, shape=sizes)
    if t.shape(scale)[0] != channels:  # until opset 20: one for each group
        scale, shift = (np.repeat(t.array(each), channels // groups) for each in (scale, shift))
    scale, shift = (
        each.reshape(per_channel)
        if isinstance(each, np.ndarray)
        else t.emit("reshape", f"{name}.factor", x=each, shape=per_channel)
        for each in (scale, shift)
    )
    scaled = t.emit("mul", f"{name}.scaled", x=back, y=scale)
    return t.emit("add", name, x=scaled, y=shift)


@handles("LRN")
def _local_norm(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """x / (bias + alpha × mean of squares of near channels)^beta, the mean by a matrix."""
    name, sizes = str(node.name), [int(n) for n in t.shape(args[0])]
    count, channels, *_ = sizes
    size = node.attributes["size"].as_int()
    alpha, beta, bias = (
        node.attributes.get_float(key, default)
        for key, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    gaps = np.arange(channels)[None] - np.arange(channels)[:, None]
    near = (gaps >= -((size - 1) // 2)) & (gaps <= size // 2)
    rows = t.emit("reshape", f"{name}.rows", x=args[0], shape=[count, channels, -1])
    squares = t.emit("mul", f"{name}.squares", x=rows, y=rows)
    mean = t.emit("matmul", f"{name}.mean", x=near.astype(np.float32) * alpha / size, y=squares)
    above = t.emit("add", f"{name}.above", x=mean, y=bias)
    power = t.emit("pow", f"{name}.power", x=above, y=-beta)
    normed = t.emit("mul", f"{name}.normed", x=rows, y=power)
    return t.emit("reshape", name, x=normed, shape=sizes)
