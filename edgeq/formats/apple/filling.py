"""ONNX operators that make or repeat values up to a size, which may depend on the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.graph import Translator, Value, handles


@handles("Expand")
def _expand(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    x, name = args[0], str(node.name)
    if t.known(args[1]) is None:
        return _expanded(t, name, x, args[1])
    own, wanted = t.shape(x), t.numbers(args[1])
    own = (1,) * (len(wanted) - len(own)) + own
    wanted = [1] * (len(own) - len(wanted)) + list(wanted)
    result = t.emit("reshape", f"{name}.rank", x=x, shape=[int(s) for s in own])
    reps = [int(w) if s == 1 else 1 for s, w in zip(own, wanted, strict=True)]
    return t.emit("tile", name, x=result, reps=reps)


def _expanded(t: Translator, name: str, x: Value, shape: Value) -> Any:
    """A sum with zeros of that shape."""
    zero = np.int32(0) if t.is_int(x) else 0.0
    zeros = t.emit("fill", f"{name}.zeros", shape=shape, value=zero)
    return t.emit("add", name, x=zeros, y=x)


@handles("ConstantOfShape")
def _constant(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    given = node.attributes.get("value")
    value = np.zeros(1, np.float32) if given is None else given.as_tensor().numpy()
    number = value.reshape(-1)[0]
    if value.dtype.kind == "b":
        whole = t.emit("fill", f"{node.name}.numbers", shape=args[0], value=np.int32(number))
        return t.writer.cast(whole, "bool")
    kept = np.int32(number) if value.dtype.kind in "iu" else float(number)
    return t.emit("fill", str(node.name), shape=args[0], value=kept)


@handles("Range")
def _range(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    start, end, step = (_single(t, f"{node.name}.{n}", each) for n, each in enumerate(args))
    return t.emit("range_1d", str(node.name), start=start, end=end, step=step)


def _single(t: Translator, name: str, value: Value) -> Any:
    """A number without axes."""
    known = t.known(value)
    if known is not None:
        number = known.reshape(-1)[0]
        return np.int32(number) if known.dtype.kind in "iu" else float(number)
    axes = len(t.shape(value))
    return t.emit("squeeze", name, x=value, axes=list(range(axes))) if axes else value
