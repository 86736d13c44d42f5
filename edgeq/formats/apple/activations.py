"""Activation functions of ONNX that Apple's runtimes lack or lose in float16, from simpler ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.graph import Translator, Value, handles

Emit = Callable[..., Any]


def _within(t: Translator, node: ir.Node) -> Emit:
    """`emit` for the operators of one node, which are named after it."""
    return lambda kind, word, **values: t.emit(kind, f"{node.name}.{word}", **values)


@handles("PRelu")
def _sloped(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    emit = _within(t, node)
    below = emit("minimum", "below", x=args[0], y=0.0)
    bent = emit("mul", "bent", x=below, y=args[1])
    return t.emit("add", str(node.name), x=emit("relu", "above", x=args[0]), y=bent)


@handles("Selu", "Celu")
def _exponential(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """gamma × x above zero, else factor × (exp(x / width) - 1)."""
    emit, number = _within(t, node), node.attributes.get_float
    if node.op_type == "Selu":
        gamma, width = number("gamma", 1.05070102), 1.0
        factor = gamma * number("alpha", 1.67326319)
    else:
        gamma, width = 1.0, number("alpha", 1.0)
        factor = width
    below = emit("mul", "below", x=emit("minimum", "least", x=args[0], y=0.0), y=1 / width)
    power = emit("sub", "less", x=emit("exp", "power", x=below), y=1.0)
    bent = emit("mul", "bent", x=power, y=factor)
    above = emit("mul", "straight", x=emit("relu", "above", x=args[0]), y=gamma)
    return t.emit("add", str(node.name), x=above, y=bent)


@handles("ThresholdedRelu", "Shrink")
def _cut(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    emit, number = _within(t, node), node.attributes.get_float
    if node.op_type == "ThresholdedRelu":
        seen = emit("greater", "seen", x=args[0], y=number("alpha", 1.0))
        return t.emit("select", str(node.name), cond=seen, a=args[0], b=0.0)
    edge, bias = number("lambd", 0.5), number("bias", 0.0)
    above = emit(
        "select",
        "more",
        cond=emit("greater", "above", x=args[0], y=edge),
        a=emit("sub", "lower", x=args[0], y=bias),
        b=0.0,
    )
    less = emit("less", "below", x=args[0], y=-edge)
    higher = emit("add", "higher", x=args[0], y=bias)
    return t.emit("select", str(node.name), cond=less, a=higher, b=above)


@handles("Softplus", "Mish")
def _softplus(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """log(1 + eˣ) as max(x, 0) + log(1 + e⁻|ˣ|), which no x takes beyond float16.

    Apple's operator gives 0 above 10.4 on the Neural Engine (coremltools' issue 2687).
    """
    emit = _within(t, node)
    below = emit("mul", "below", x=emit("abs", "size", x=args[0]), y=-1.0)
    power = emit("add", "more", x=emit("exp", "power", x=below), y=1.0)
    log = emit("log", "log", x=power, epsilon=0.0)
    soft = emit("add", "soft", x=emit("relu", "above", x=args[0]), y=log)
    if node.op_type == "Softplus":
        return soft
    return t.emit("mul", str(node.name), x=args[0], y=emit("tanh", "gate", x=soft))


@handles("Swish")
def _swish(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    emit = _within(t, node)
    inside = emit("mul", "inside", x=args[0], y=node.attributes.get_float("alpha", 1.0))
    return t.emit("mul", str(node.name), x=args[0], y=emit("sigmoid", "gate", x=inside))


@handles("Asinh", "Acosh")
def _inverse(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """log(|x| + √(x² ± 1)), with the sign of x."""
    emit = _within(t, node)
    one = 1.0 if node.op_type == "Asinh" else -1.0
    size = emit("abs", "size", x=args[0]) if node.op_type == "Asinh" else args[0]
    squares = emit("add", "shifted", x=emit("mul", "squares", x=size, y=size), y=one)
    total = emit("add", "total", x=size, y=emit("sqrt", "root", x=squares))
    log = emit("log", "log", x=total, epsilon=0.0)
    if node.op_type == "Acosh":
        return log
    return t.emit("mul", str(node.name), x=log, y=emit("sign", "sign", x=args[0]))


@handles("Hardmax")
def _hardmax(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """1 at the first of the largest values."""
    emit, rank = _within(t, node), len(t.shape(args[0]))
    axis = node.attributes.get_int("axis", -1) % rank
    place = emit("reduce_argmax", "place", x=args[0], axis=axis, keep_dims=True)
    steps = np.arange(int(t.shape(args[0])[axis])).reshape(
        [-1 if n == axis else 1 for n in range(rank)]
    )
    hits = emit("equal", "hits", x=place, y=steps)
    return t.writer.cast(hits, t.writer.precision(str(node.name)))


@handles("LogSoftmax")
def _log_softmax(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """Not the logarithm of a share: in float16 most shares are zero."""
    emit, axis = _within(t, node), node.attributes.get_int("axis", -1)
    most = emit("reduce_max", "most", x=args[0], axes=[axis], keep_dims=True)
    below = emit("sub", "below", x=args[0], y=most)
    power = emit("exp", "power", x=below)
    total = emit("reduce_sum", "sum", x=power, axes=[axis], keep_dims=True)
    return t.emit("sub", str(node.name), x=below, y=emit("log", "log", x=total, epsilon=0.0))
