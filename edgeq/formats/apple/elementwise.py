"""ONNX operators that work element by element."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.constants import FAR
from edgeq.formats.apple.graph import Translator, Value, handles

_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Pow": "pow",
    "Max": "maximum",
    "Min": "minimum",
    "Sum": "add",
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "And": "logical_and",
    "Or": "logical_or",
    "Xor": "logical_xor",
}
_UNARY = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Erf": "erf",
    "Exp": "exp",
    "Sqrt": "sqrt",
    "Abs": "abs",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Cos": "cos",
    "Not": "logical_not",
    "Tan": "tan",
    "Asin": "asin",
    "Acos": "acos",
    "Atan": "atan",
    "Sinh": "sinh",
    "Cosh": "cosh",
    "Atanh": "atanh",
    "Softsign": "softsign",
}
_CASTS = {1: "float", 10: "float", 11: "float", 16: "float", 6: "int32", 7: "int32", 9: "bool"}


@handles(*_BINARY)
def _binary(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    result = args[0]
    for other in args[1:]:
        result = t.emit(_BINARY[node.op_type], str(node.name), x=result, y=other)
    return result


@handles("Div")
def _divide(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """ONNX drops the fraction of integers, Apple's division rounds down: signs go apart."""
    name, (x, y) = str(node.name), args
    if not any(not isinstance(a, np.ndarray) and t.is_int(a) for a in args):
        return t.emit("real_div", name, x=x, y=y)

    sizes, signs = (
        {of: _part(t, name, kind, value, of) for of, value in (("x", x), ("y", y))}
        for kind in ("abs", "sign")
    )
    size = t.emit("floor_div", f"{name}.size", **sizes)
    sign = t.emit("mul", f"{name}.sign", **signs)
    return t.emit("mul", name, x=size, y=sign)


@handles(*_UNARY)
def _unary(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    return t.emit(_UNARY[node.op_type], str(node.name), x=args[0])


@handles("Neg")
def _negative(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    minus = np.int32(-1) if t.is_int(args[0]) else -1.0
    return t.emit("mul", str(node.name), x=args[0], y=minus)


@handles("Reciprocal")
def _reciprocal(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    return t.emit("real_div", str(node.name), x=1.0, y=args[0])


@handles("Identity", "Dropout")
def _same(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    return args[0]


@handles("Where")
def _where(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    return t.emit("select", str(node.name), cond=args[0], a=args[1], b=args[2])


@handles("Cast")
def _cast(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    to = node.attributes["to"].as_int()
    if to not in _CASTS:
        raise ValueError(f"its result is {ir.DataType(to).name.lower()}")
    wanted = _CASTS[to]
    if wanted == "float":
        wanted = t.writer.precision(str(node.name))
    return t.writer.cast(args[0], wanted)


@handles("Clip")
def _clip(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    low, high = (_bound(t, each) for each in [*args, None, None][1:3])
    result = args[0]
    if low is not None:
        result = t.emit("maximum", str(node.name), x=result, y=low)
    if high is not None:
        result = t.emit("minimum", str(node.name), x=result, y=high)
    return result


@handles("Log")
def _log(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    return t.emit("log", str(node.name), x=args[0], epsilon=0.0)


@handles("Mod")
def _modulo(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """With the sign of the divisor, as Apple's operator; with `fmod`, of what is divided."""
    name, (x, y) = str(node.name), args
    if not node.attributes.get_int("fmod", 0):
        # Core AI's rest of integers has the sign of what is divided.
        rest = t.emit("mod", f"{name}.rest", x=x, y=y)
        return t.emit("mod", name, x=t.emit("add", f"{name}.above", x=rest, y=y), y=y)
    rest = t.emit(
        "mod", f"{name}.rest", x=_part(t, name, "abs", x, "x"), y=_part(t, name, "abs", y, "y")
    )
    return t.emit("mul", name, x=rest, y=_part(t, name, "sign", x, "x"))


def _part(t: Translator, name: str, kind: str, value: Value, of: str) -> Any:
    """The size or sign of a variable or constant."""
    if isinstance(value, np.ndarray):
        return (np.abs if kind == "abs" else np.sign)(value)
    return t.emit(kind, f"{name}.{kind}.{of}", x=value)


@handles("Mean")
def _mean(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    total = args[0]
    for other in args[1:]:
        total = t.emit("add", f"{node.name}.sum", x=total, y=other)
    return t.emit("mul", str(node.name), x=total, y=1 / len(args))


@handles("IsNaN", "IsInf")
def _not_finite(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    if node.op_type == "IsNaN":
        return t.emit("not_equal", str(node.name), x=args[0], y=args[0])
    signs = (node.attributes.get_int(f"detect_{word}", 1) for word in ("positive", "negative"))
    if not all(signs):
        raise ValueError("it looks for infinities of one sign")
    size = t.emit("abs", f"{node.name}.size", x=args[0])
    most = np.finfo(np.float32).max
    return t.writer.in_float32("greater", str(node.name), x=size, y=most)


@handles("CastLike")
def _cast_like(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    x, like = args
    if isinstance(like, np.ndarray):
        word = {"f": "float", "i": "int32", "b": "bool"}[like.dtype.kind]
    else:
        word = t.writer.dtype(like)
    if isinstance(x, np.ndarray):
        return x.astype({"int32": np.int32, "bool": np.bool_}.get(word, np.float32))
    return t.writer.cast(x, t.writer.precision(str(node.name)) if word == "float" else word)


def _bound(t: Translator, value: Value) -> Value:
    """A limit; None for one that no int32 exceeds."""
    known = t.known(value)
    is_beyond = known is not None and known.dtype.kind == "i" and (np.abs(known) > FAR).all()
    return None if is_beyond else value
