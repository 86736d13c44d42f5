"""ONNX operators that work element by element, move values, or reduce them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

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
_CASTS = {1: "float", 10: "float", 11: "float", 16: "float", 6: "int32", 7: "int32", 9: "bool"}
_FAR = np.iinfo(np.int32).max // 2  # a place beyond any axis: exporters write the largest integer


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


@handles("Tile")
def _tile(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    return t.emit("tile", str(node.name), x=args[0], reps=t.numbers(args[1]))


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
    is_beyond = known is not None and known.dtype.kind == "i" and (np.abs(known) > _FAR).all()
    return None if is_beyond else value


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


@handles("Slice")
def _slice(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    rank = len(t.shape(args[0]))
    data, begins, ends, axes, steps = [*args, None, None, None][:5]
    chosen = t.numbers(axes) if axes is not None else list(range(t.shape(begins)[0]))
    chosen = [axis % rank for axis in chosen]
    whole = [axis not in chosen for axis in range(rank)]
    strides = [1] * rank
    for axis, step in zip(chosen, t.numbers(steps) if steps is not None else [], strict=False):
        strides[axis] = step
    begins, first = _edges(t, begins, chosen, strides, t.shape(data), is_end=False)
    ends, last = _edges(t, ends, chosen, strides, t.shape(data), is_end=True)
    return t.emit(
        "slice_by_index",
        str(node.name),
        x=data,
        begin=_places(t, f"{node.name}.0", begins, chosen, rank),
        end=_places(t, f"{node.name}.1", ends, chosen, rank),
        stride=strides,
        begin_mask=[a or b for a, b in zip(whole, first, strict=True)],
        end_mask=[a or b for a, b in zip(whole, last, strict=True)],
    )


def _edges(
    t: Translator,
    value: Value,
    axes: list[int],
    strides: list[int],
    shape: tuple[Any, ...],
    *,
    is_end: bool,
) -> tuple[Value, list[bool]]:
    """Where a slice begins or ends on `axes`, and the axes on which it does at the very edge.

    ONNX counts negative places from the back and clips places outside; backwards, an end before the
    first element has no number.
    """
    known = t.known(value)
    masks = [False] * len(shape)
    if known is None:
        if any(step < 0 for step in strides):
            raise ValueError("it goes backwards from or to a place that depends on the input")
        return value, masks
    places = []
    for axis, given in zip(axes, known.reshape(-1), strict=True):
        back, size, place = strides[axis] < 0, shape[axis], int(given)
        if isinstance(size, int | np.integer):
            place = place + int(size) if place < 0 else place
            outside = place < 0 if back == is_end else place >= int(size)
            place = min(max(place, 0), int(size))
        else:
            outside = place < -_FAR if back == is_end else place > _FAR
            outside = outside or (back and not is_end and place == -1)
        masks[axis] = outside
        places.append(0 if outside else place)
    return np.array(places, np.int64), masks


def _places(t: Translator, name: str, value: Value, axes: list[int], rank: int) -> Any:
    """One number for every axis: those of `value` for `axes`, 0 for the others."""
    known = t.known(value)
    if known is not None:
        numbers = np.zeros(rank, np.int64)
        numbers[axes] = known
        return numbers
    parts: list[Any] = [np.zeros(1, np.int32)] * rank
    for place, axis in enumerate(axes):
        part = {"begin": [place], "end": [place + 1]}
        parts[axis] = t.emit("slice_by_index", f"{name}.{axis}", x=value, **part)
    return t.emit("concat", name, values=parts, axis=0)


_PADDED = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


@handles("Pad")
def _pad(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """Negative amounts cut. Apple's runtimes repeat values along the last two axes alone."""
    name, rank = str(node.name), len(t.shape(args[0]))
    data, amounts, fill, axes = [*args, None, None][:4]
    mode = str(node.attributes.get_string("mode", "constant"))
    pairs = _pairs(t, amounts, axes, rank)
    if any(amount < 0 for amount in pairs):
        places = {
            "begin": [max(0, -begin) for begin in pairs[::2]],
            "end": [min(0, end) for end in pairs[1::2]],
            "end_mask": [end >= 0 for end in pairs[1::2]],
        }
        data = t.emit("slice_by_index", f"{name}.cut", x=data, **places)
        pairs = [max(0, amount) for amount in pairs]
    if mode == "constant":
        number = t.array(fill).reshape(-1)[0] if fill is not None else 0
        if t.is_int(data):
            return _surrounded(t, name, data, pairs, np.int32(number))
        return t.emit("pad", name, x=data, pad=pairs, mode=mode, constant_val=float(number))
    for axis in range(rank):
        around = pairs[2 * axis : 2 * axis + 2]
        if any(around) and (axis < rank - 2 or mode not in _PADDED):
            places = np.pad(np.arange(int(t.shape(data)[axis])), around, mode)  # type: ignore[call-overload]
            data = t.emit("gather", f"{name}.{axis}", x=data, indices=places, axis=axis)
            pairs[2 * axis : 2 * axis + 2] = [0, 0]
    if not any(pairs):
        return data
    return t.emit("pad", name, x=data, pad=pairs[-4:], mode=_PADDED[mode], constant_val=0.0)


def _surrounded(t: Translator, name: str, data: Value, pairs: list[int], fill: np.int32) -> Any:
    """Integers with constants around them: Core ML pads floats alone."""
    for axis, around in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
        if any(around):
            sizes = t.shape(data)
            shapes = [(*sizes[:axis], amount, *sizes[axis + 1 :]) for amount in around]
            before, after = (np.full([int(n) for n in each], fill) for each in shapes)
            parts = [part for part in (before, data, after) if part.shape[axis] != 0]
            data = t.emit("concat", f"{name}.{axis}", values=parts, axis=axis)
    return data


def _pairs(t: Translator, amounts: Value, axes: Value, rank: int) -> list[int]:
    """The amounts before and after each axis; ONNX lists all those before first."""
    given = t.numbers(amounts)
    chosen = t.numbers(axes) if axes is not None else range(rank)
    pairs = [0] * 2 * rank
    for place, axis in enumerate(chosen):
        pairs[2 * (axis % rank)] = given[place]
        pairs[2 * (axis % rank) + 1] = given[len(given) // 2 + place]
    return pairs


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
