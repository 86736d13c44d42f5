"""ONNX operators that reduce axes, or sum along one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.graph import Translator, Value, handles

_REDUCTIONS = {
    "ReduceMean": "reduce_mean",
    "ReduceSum": "reduce_sum",
    "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min",
    "ReduceProd": "reduce_prod",
    "ReduceL1": "reduce_l1_norm",
    "ReduceL2": "reduce_l2_norm",
    "ReduceSumSquare": "reduce_sum_square",
}


@handles(*_REDUCTIONS)
def _reduce(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    return _reduced(
        t, str(node.name), _REDUCTIONS[node.op_type], args[0], _reduction(t, node, args)
    )


@handles("ReduceLogSum", "ReduceLogSumExp")
def _reduce_log(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """The logarithm of a sum; of powers, as those of differences from the largest value."""
    name, (axes, keep) = str(node.name), _reduction(t, node, args)
    if node.op_type == "ReduceLogSum":
        total = _reduced(t, f"{name}.sum", "reduce_sum", args[0], (axes, keep))
        return t.emit("log", name, x=total, epsilon=0.0)
    most = t.emit("reduce_max", f"{name}.most", x=args[0], axes=axes, keep_dims=True)
    below = t.emit("sub", f"{name}.below", x=args[0], y=most)
    power = t.emit("exp", f"{name}.power", x=below)
    total = t.emit("reduce_sum", f"{name}.sum", x=power, axes=axes, keep_dims=True)
    whole = t.emit("add", name, x=t.emit("log", f"{name}.log", x=total, epsilon=0.0), y=most)
    return whole if keep else t.emit("squeeze", f"{name}.flat", x=whole, axes=axes)


def _reduction(t: Translator, node: ir.Node, args: list[Value]) -> tuple[list[int], bool]:
    """The axes, and whether they are kept. No axes are all, or none."""
    axes = node.attributes.get_ints("axes", None)
    if len(args) > 1 and args[1] is not None:
        axes = t.numbers(args[1])
    keep = bool(node.attributes.get_int("keepdims", 1))
    takes_none = bool(node.attributes.get_int("noop_with_empty_axes", 0))
    if axes or takes_none:
        return list(axes or ()), keep
    return list(range(len(t.shape(args[0])))), keep


def _reduced(t: Translator, name: str, kind: str, x: Value, over: tuple[list[int], bool]) -> Any:
    axes, keep = over
    if axes:
        return t.emit(kind, name, x=x, axes=axes, keep_dims=keep)
    if kind == "reduce_sum_square":
        return t.emit("mul", name, x=x, y=x)
    return t.emit("abs", name, x=x) if kind in ("reduce_l1_norm", "reduce_l2_norm") else x


@handles("CumSum")
def _cumulate(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    (axis,) = t.numbers(args[1])
    ways = {way: bool(node.attributes.get_int(way, 0)) for way in ("exclusive", "reverse")}
    return t.emit("cumsum", str(node.name), x=args[0], axis=axis % len(t.shape(args[0])), **ways)


@handles("ArgMax", "ArgMin")
def _extreme(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """The first of equal values; the last one is the first from the back."""
    name, axis = str(node.name), node.attributes.get_int("axis", 0)
    keep = bool(node.attributes.get_int("keepdims", 1))
    kind = "reduce_argmax" if node.op_type == "ArgMax" else "reduce_argmin"
    x, is_last = args[0], bool(node.attributes.get_int("select_last_index", 0))
    if is_last:
        x = t.emit("reverse", f"{name}.reversed", x=x, axes=[axis % len(t.shape(x))])
    place = t.emit(kind, name, x=x, axis=axis, keep_dims=keep)
    if not is_last:
        return place
    return t.emit("sub", f"{name}.last", x=np.int32(int(t.shape(x)[axis]) - 1), y=place)
