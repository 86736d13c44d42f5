"""ONNX operators that read, write or order values by index."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.graph import Translator, Value, handles

_MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def wrapped(t: Translator, name: str, indices: Value, size: Any) -> Any:
    """Indices without negative ones, which ONNX counts from the back."""
    known = t.known(indices)
    if known is not None:
        return np.where(known < 0, known + int(size), known) if (known < 0).any() else known
    below = t.emit("less", f"{name}.negative", x=indices, y=np.int32(0))
    more = t.emit("add", f"{name}.from_the_back", x=indices, y=np.int32(size))
    return t.emit("select", f"{name}.places", cond=below, a=more, b=indices)


@handles("GatherElements")
def _gather_elements(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    axis, name = node.attributes.get_int("axis", 0), str(node.name)
    own, taken = t.shape(args[0]), t.shape(args[1])
    place = axis % len(own)
    data = args[0]
    if own[:place] + own[place + 1 :] != taken[:place] + taken[place + 1 :]:
        ends = [int(own[n]) if n == place else int(taken[n]) for n in range(len(own))]
        begins = [0] * len(own)
        data = t.emit("slice_by_index", f"{name}.part", x=data, begin=begins, end=ends)
    places = wrapped(t, name, args[1], own[place])
    return t.emit("gather_along_axis", name, x=data, indices=places, axis=place)


@handles("GatherND")
def _gather_places(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    if node.attributes.get_int("batch_dims", 0):
        raise ValueError("it has batches")
    places = _wrapped_places(t, node, args[0], args[1])
    return t.emit("gather_nd", str(node.name), x=args[0], indices=places)


def _wrapped_places(t: Translator, node: ir.Node, data: Value, indices: Value) -> Any:
    sizes = np.array([int(n) for n in t.shape(data)[: int(t.shape(indices)[-1])]], np.int32)
    known = t.known(indices)
    if known is not None:
        return np.where(known < 0, known + sizes, known)
    name = str(node.name)
    below = t.emit("less", f"{name}.negative", x=indices, y=np.int32(0))
    more = t.emit("add", f"{name}.from_the_back", x=indices, y=sizes)
    return t.emit("select", f"{name}.places", cond=below, a=more, b=indices)


@handles("ScatterElements")
def _scatter_elements(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    own, taken = t.shape(args[0]), t.shape(args[1])
    axis = node.attributes.get_int("axis", 0) % len(own)
    if own[:axis] + own[axis + 1 :] != taken[:axis] + taken[axis + 1 :]:
        raise ValueError("it writes into a part of its other axes")
    name, size = str(node.name), own[axis]
    return t.emit(
        "scatter_along_axis",
        name,
        data=args[0],
        indices=wrapped(t, name, args[1], size),
        updates=args[2],
        axis=axis,
        mode=_mode(node),
    )


@handles("ScatterND")
def _scatter_places(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    places = _wrapped_places(t, node, args[0], args[1])
    parts = {"data": args[0], "indices": places, "updates": args[2]}
    return t.emit("scatter_nd", str(node.name), **parts, mode=_mode(node))


def _mode(node: ir.Node) -> str:
    return _MODES[str(node.attributes.get_string("reduction", "none"))]


@handles("TopK")
def _largest(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    (count,) = t.numbers(args[1])
    axis = node.attributes.get_int("axis", -1) % len(t.shape(args[0]))
    ascending = not node.attributes.get_int("largest", 1)
    return t.emit("topk", str(node.name), x=args[0], k=count, axis=axis, ascending=ascending)


@handles("OneHot")
def _one_hot(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    name, (depth,) = str(node.name), t.numbers(args[1])
    rank = len(t.shape(args[0])) + 1
    axis = node.attributes.get_int("axis", -1) % rank
    off, on = t.array(args[2])
    places = wrapped(t, name, args[0], depth)
    if isinstance(places, np.ndarray):
        raise ValueError("its indices are constant")
    wide = t.emit("expand_dims", f"{name}.wide", x=places, axes=[axis])
    steps = np.arange(depth).reshape([-1 if n == axis else 1 for n in range(rank)])
    if not t.is_int(places):
        steps = steps.astype(np.float32)
    hits = t.emit("equal", f"{name}.hits", x=wide, y=steps)
    return t.emit("select", name, cond=hits, a=on, b=off)


@handles("Trilu")
def _triangle(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    rows, columns = (int(n) for n in t.shape(args[0])[-2:])
    (shift,) = t.numbers(args[1]) if len(args) > 1 and args[1] is not None else (0,)
    kept = np.tri(rows, columns, shift if not node.attributes.get_int("upper", 1) else shift - 1)
    is_upper = bool(node.attributes.get_int("upper", 1))
    zero = np.int32(0) if t.is_int(args[0]) else 0.0
    return t.emit("select", str(node.name), cond=(kept == 0) == is_upper, a=args[0], b=zero)
