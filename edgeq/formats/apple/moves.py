"""ONNX operators that move values, or say how many there are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.graph import Translator, Value, handles


@handles("Reshape")
def _reshape(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    wanted = t.known(args[1])
    if wanted is None:
        return t.emit("reshape", str(node.name), x=args[0], shape=args[1])
    own = t.shape(args[0])
    sizes = [own[i] if size == 0 else int(size) for i, size in enumerate(wanted)]
    if len(own) == len(sizes) and all(a in (b, -1) for a, b in zip(sizes, own, strict=True)):
        return args[0]  # of six axes, it would keep coremltools from joining its neighbors
    unknown = [i for i, size in enumerate(sizes) if not isinstance(size, int)]
    if len(unknown) + sizes.count(-1) > 1:
        return t.emit(
            "reshape", str(node.name), x=args[0], shape=_own_sizes(t, node, args[0], sizes)
        )
    for i in unknown:  # one free size follows from the others
        sizes[i] = -1
    return t.emit("reshape", str(node.name), x=args[0], shape=sizes)


def _own_sizes(t: Translator, node: ir.Node, x: Value, sizes: list[Any]) -> Any:
    """A shape with free sizes, each that of `x` at the same place."""
    whole = t.emit("shape", f"{node.name}.own", x=x)
    parts = [
        np.array([size], np.int32)
        if isinstance(size, int)
        else t.emit("slice_by_index", f"{node.name}.own.{i}", x=whole, begin=[i], end=[i + 1])
        for i, size in enumerate(sizes)
    ]
    return t.emit("concat", f"{node.name}.shape", values=parts, axis=0)


@handles("Flatten")
def _flatten(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    axis = node.attributes.get_int("axis", 1)
    rows = int(np.prod(t.shape(args[0])[:axis], dtype=np.int64))
    return t.emit("reshape", str(node.name), x=args[0], shape=[rows, -1])


@handles("Transpose")
def _transpose(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    order = node.attributes.get_ints("perm", None) or range(len(t.shape(args[0])))[::-1]
    return t.emit("transpose", str(node.name), x=args[0], perm=list(order))


@handles("Squeeze", "Unsqueeze")
def _axes(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    kind = "squeeze" if node.op_type == "Squeeze" else "expand_dims"
    axes = node.attributes.get_ints("axes", None)
    if len(args) > 1:
        axes = t.numbers(args[1])
    if axes is None:
        axes = [i for i, size in enumerate(t.shape(args[0])) if size == 1]
    return t.emit(kind, str(node.name), x=args[0], axes=list(axes)) if axes else args[0]


@handles("Concat")
def _concat(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    axis = node.attributes["axis"].as_int()
    return t.emit("concat", str(node.name), values=list(args), axis=axis)


@handles("Split")
def _split(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    axis = node.attributes.get_int("axis", 0)
    if len(args) > 1 and args[1] is not None:
        sizes = np.array(t.numbers(args[1]), np.int32)
        return t.emit("split", str(node.name), x=args[0], split_sizes=sizes, axis=axis)
    count = len(node.outputs)
    return t.emit("split", str(node.name), x=args[0], num_splits=count, axis=axis)


@handles("Tile")
def _tile(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    return t.emit("tile", str(node.name), x=args[0], reps=t.numbers(args[1]))


@handles("Shape")
def _shape(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    sizes = t.shape(args[0])
    begin, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(sizes))
    if all(isinstance(size, int | np.integer) for size in sizes[begin:end]):
        return np.array(sizes[begin:end], np.int64)
    whole = t.emit("shape", str(node.name), x=args[0])
    return t.emit("slice_by_index", f"{node.name}.part", x=whole, begin=[begin], end=[end])


@handles("Size")
def _size(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    sizes = t.shape(args[0])
    if all(isinstance(size, int | np.integer) for size in sizes):
        return np.array(math.prod(sizes), np.int64)
    raise ValueError("the number of values depends on the input: build for one shape")


@handles("Gather")
def _gather(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    axis = node.attributes.get_int("axis", 0)
    indices = args[1]
    known = t.known(indices)
    if known is not None and (known < 0).any():
        size = t.shape(args[0])[axis]
        indices = np.where(known < 0, known + int(size), known)
    return t.emit("gather", str(node.name), x=args[0], indices=indices, axis=axis)
