"""A strategy for each ONNX operator that is translated for Apple: operands and attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray
Draw = Callable[[st.SearchStrategy[Any]], Any]
_TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}


@dataclass
class Case:
    """One operator. given: its inputs; constants: what it reads besides, None where omitted."""

    given: list[Array]
    constants: list[Array | None] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    domain: str = ""
    opset: int = 20


Make = Callable[[Draw, "Numbers", str], Case]
MAKERS: dict[str, Make] = {}


class Numbers:
    """Values of a drawn seed."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**20)))

    def floats(self, *shape: int, scale: float = 2.0) -> Array:
        """Of both signs."""
        return (self.rng.normal(size=shape) * scale).astype(np.float32)

    def whole(self, *shape: int, low: int = -9, high: int = 9) -> Array:
        """Integers."""
        return self.rng.integers(low, high + 1, shape, np.int64)

    def shape(self, least: int = 1, most: int = 4) -> tuple[int, ...]:
        """Sizes of a few axes."""
        return tuple(self.draw(st.lists(st.integers(1, 4), min_size=least, max_size=most)))

    def below(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to another."""
        kept = shape[self.draw(st.integers(0, len(shape) - 1)) :]
        return tuple(1 if self.draw(st.booleans()) else size for size in kept)

    def axis(self, rank: int) -> int:
        """Counted from either end."""
        return int(self.draw(st.integers(-rank, rank - 1)))

    def axes(self, rank: int, least: int = 1) -> list[int]:
        """Different ones, from either end."""
        places = st.integers(0, rank - 1)
        chosen = self.draw(st.lists(places, min_size=least, max_size=rank, unique=True))
        return [axis - rank if self.draw(st.booleans()) else axis for axis in chosen]

    def one_of(self, *options: Any) -> Any:
        """One of them."""
        return self.draw(st.sampled_from(options))


def of(*kinds: str) -> Callable[[Make], Make]:
    """Register a maker for operators."""

    def register(make: Make) -> Make:
        MAKERS.update(dict.fromkeys(kinds, make))
        return make

    return register


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def f32(value: float) -> Array:
    return np.array(value, np.float32)


def model_of(kind: str, case: Case) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The graph of one operator, and its inputs."""
    feeds = {f"x{n}": array for n, array in enumerate(case.given)}
    stored = {f"c{n}": array for n, array in enumerate(case.constants) if array is not None}
    names = [*feeds, *(f"c{n}" if f"c{n}" in stored else "" for n in range(len(case.constants)))]
    while not names[-1]:
        names.pop()
    results = [f"y{n}" for n in range(case.outputs)]
    node = helper.make_node(
        kind, names, results, name="only", domain=case.domain, **case.attributes
    )
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, _TYPES[array.dtype.kind], array.shape)
            for name, array in feeds.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in results],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), feeds


@of("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean", "Greater", "GreaterOrEqual", "Less")
@of("LessOrEqual", "Equal", "Div", "Mod", "Pow")
def _two(draw: Draw, n: Numbers, kind: str) -> Case:
    shape = n.shape()
    parts = [n.floats(*shape), n.floats(*n.below(shape))]
    if kind == "Equal" or (kind not in ("Mean", "Sum", "Pow") and draw(st.booleans())):
        parts = [n.whole(*each.shape) for each in parts]
    if kind in ("Max", "Min", "Sum", "Mean") and draw(st.booleans()):
        parts.append(parts[0] + 1)
    if kind in ("Div", "Mod"):
        parts[1] = np.where(np.abs(parts[1]) < 0.5, np.ones((), parts[1].dtype), parts[1])
    if kind == "Pow":
        parts[0] = np.abs(parts[0]) + np.float32(0.2)
    fmod = parts[0].dtype.kind == "f" or draw(st.booleans())
    attributes = {"fmod": int(fmod)} if kind == "Mod" else {}
    if draw(st.booleans()):
        return Case(parts[:1], list(parts[1:]), attributes)
    return Case(parts, [], attributes)


@of("And", "Or", "Xor", "Not")
def _truths(draw: Draw, n: Numbers, kind: str) -> Case:
    shape = n.shape()
    parts = [n.floats(*shape) > 0, n.floats(*n.below(shape)) > 0]
    return Case(parts[: 1 if kind == "Not" else 2])


_WITHIN = {"Asin": 0.3, "Acos": 0.3, "Atanh": 0.3, "Sinh": 1.0, "Cosh": 1.0, "Exp": 2.0, "Tan": 0.3}


@of("Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Sqrt", "Abs", "Floor", "Ceil", "Round", "Sign")
@of("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Log")
@of("Softplus", "Softsign", "Neg", "Reciprocal", "Identity", "Dropout", "Mish", "HardSwish")
def _one(draw: Draw, n: Numbers, kind: str) -> Case:
    x = n.floats(*n.shape(), scale=_WITHIN.get(kind, n.one_of(1.0, 20.0)))
    if kind in ("Asin", "Acos", "Atanh"):
        x = np.clip(x, -0.95, 0.95)
    if kind in ("Sqrt", "Log", "Reciprocal", "Acosh"):
        x = np.abs(x) + np.float32(1.1 if kind == "Acosh" else 0.1)
    if kind in ("Abs", "Neg", "Sign") and draw(st.booleans()):
        x = np.round(x).astype(np.int64)
    return Case([x])


@of("IsNaN", "IsInf")
def _not_finite(draw: Draw, n: Numbers, kind: str) -> Case:
    x = n.floats(3, 4)
    x[0, :3] = np.inf, -np.inf, np.nan
    return Case([x])


@of("LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "HardSigmoid", "Shrink", "QuickGelu")
def _with_numbers(draw: Draw, n: Numbers, kind: str) -> Case:
    names = {"Selu": "alpha gamma", "HardSigmoid": "alpha beta", "Shrink": "lambd bias"}
    values = {name: draw(st.floats(0.1, 2)) for name in names.get(kind, "alpha").split()}
    domain = "com.microsoft" if kind == "QuickGelu" else ""
    return Case([n.floats(*n.shape(), scale=3)], [], values, domain=domain)


@of("Swish")
def _swish(draw: Draw, n: Numbers, kind: str) -> Case:
    return Case([n.floats(*n.shape())], [], {"alpha": draw(st.floats(0.5, 2))}, opset=24)


@of("Gelu", "BiasGelu", "FastGelu")
def _gelu(draw: Draw, n: Numbers, kind: str) -> Case:
    x = n.floats(2, 3, 4)
    if kind == "Gelu":
        return Case([x], [], {"approximate": n.one_of("none", "tanh")})
    return Case([x], [n.floats(4)], domain="com.microsoft")


@of("PRelu")
def _prelu(draw: Draw, n: Numbers, kind: str) -> Case:
    shape = n.shape()
    return Case([n.floats(*shape)], [n.floats(*n.below(shape))])


@of("Clip")
def _clip(draw: Draw, n: Numbers, kind: str) -> Case:
    if draw(st.booleans()):
        return Case([n.whole(3, 4)], [np.array(-3), np.array(np.iinfo(np.int64).max)])
    low, high = f32(-0.5), f32(0.7)
    return Case([n.floats(*n.shape())], [n.one_of(low, None), n.one_of(high, None)])


@of("Where")
def _where(draw: Draw, n: Numbers, kind: str) -> Case:
    shape = n.shape()
    return Case([n.floats(*shape) > 0, n.floats(*n.below(shape)), n.floats(*shape)])


@of("Cast")
def _cast(draw: Draw, n: Numbers, kind: str) -> Case:
    x = n.one_of(n.floats(3, 4, scale=3), n.whole(3, 4), n.whole(3, 4) > 0)
    to = n.one_of(TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    return Case([x], [], {"to": to})


@of("CastLike")
def _cast_like(draw: Draw, n: Numbers, kind: str) -> Case:
    return Case([n.floats(3, 4, scale=3)], [n.one_of(i64(1), f32(1), np.array(True))])


@of("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")
@of("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def _reduced(draw: Draw, n: Numbers, kind: str) -> Case:
    shape = n.shape(2)
    x = n.floats(*shape)
    if kind == "ReduceLogSum":
        x = np.abs(x) + np.float32(0.1)
    axes = n.one_of(None, i64(*n.axes(len(shape))))
    attributes = {"keepdims": n.one_of(0, 1)}
    if axes is None and attributes["keepdims"]:
        attributes["noop_with_empty_axes"] = n.one_of(0, 1)
    return Case([x], [] if axes is None else [axes], attributes)


@of("ArgMax", "ArgMin")
def _extreme(draw: Draw, n: Numbers, kind: str) -> Case:
    shape = n.shape(2)
    attributes = {"axis": n.axis(len(shape)), "keepdims": n.one_of(0, 1)}
    x = n.whole(*shape, low=0, high=2).astype(np.float32)  # with equal ones
    return Case([x], [], {**attributes, "select_last_index": n.one_of(0, 1)})


@of("CumSum")
def _cumulated(draw: Draw, n: Numbers, kind: str) -> Case:
    shape = n.shape(2)
    ways = {"exclusive": n.one_of(0, 1), "reverse": n.one_of(0, 1)}
    return Case([n.floats(*shape)], [np.array(n.axis(len(shape)), np.int64)], ways)


@of("Softmax", "LogSoftmax", "Hardmax")
def _shares(draw: Draw, n: Numbers, kind: str) -> Case:
    shape = n.shape(2)
    return Case([n.floats(*shape, scale=n.one_of(1.0, 30.0))], [], {"axis": n.axis(len(shape))})


@of("MatMul")
def _product(draw: Draw, n: Numbers, kind: str) -> Case:
    left, right = n.one_of(
        ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 2)), ((2, 4), (4, 3)),
        ((2, 3, 4), (4,)), ((4,), (4, 3)), ((4,), (4,)),
    )  # fmt: skip
    parts = [n.floats(*left), n.floats(*right)]
    return Case(parts[:1], list(parts[1:])) if draw(st.booleans()) else Case(parts)


@of("FusedMatMul")
def _fused(draw: Draw, n: Numbers, kind: str) -> Case:
    turned = n.one_of(0, 1)
    right = n.floats(5, 4) if turned else n.floats(4, 5)
    return Case([n.floats(2, 3, 4), right], [], {"transB": turned}, domain="com.microsoft")


@of("Gemm")
def _gemm(draw: Draw, n: Numbers, kind: str) -> Case:
    left, right = n.one_of(0, 1), n.one_of(0, 1)
    x = n.floats(4, 3) if left else n.floats(3, 4)
    weight = n.floats(5, 4) if right else n.floats(4, 5)
    bias = n.one_of(None, n.floats(5), n.floats(1, 5), n.floats(3, 1))
    alpha, beta = n.one_of(1.0, 0.5), n.one_of(1.0, 2.0)
    attributes = {"transA": left, "transB": right, "alpha": alpha, "beta": beta}
    given = [x, weight] if draw(st.booleans()) else [x]
    return Case(given, [*([] if len(given) == 2 else [weight]), bias], attributes)


@of("Einsum")
def _einsum(draw: Draw, n: Numbers, kind: str) -> Case:
    sizes = dict(zip("abcdef", (2, 3, 4, 2, 3, 2), strict=True))
    equation = n.one_of(
        "ab,bc->ac", "abc,acd->abd", "bhid,bhjd->bhij".translate(str.maketrans("bhidj", "abcde")),
        "abc,c->ab", "ab->ba", "abc->ac", "ab,ab->a", "a,b->ab", "abc,adc->bda",
    )  # fmt: skip
    terms = equation.split("->")[0].split(",")
    given = [n.floats(*(sizes[letter] for letter in term)) for term in terms]
    return Case(given, [], {"equation": equation})


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


@of("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "LpNormalization")
@of("SkipLayerNormalization")
def _last_norm(draw: Draw, n: Numbers, kind: str) -> Case:
    x, first = n.floats(2, 3, 4), n.one_of(1, 2, -1)
    width = x.shape[first:]
    if kind == "LpNormalization":
        return Case([x], [], {"axis": n.axis(3), "p": 2})
    if kind == "SkipLayerNormalization":
        more = [n.floats(4), n.one_of(None, n.floats(4)), n.one_of(None, n.floats(4))]
        return Case([x, n.floats(2, 3, 4)], list(more), domain="com.microsoft")
    if kind == "LayerNormalization":
        bias = n.one_of(None, n.floats(*width))
        return Case([x], [n.floats(*width), bias], {"axis": first})
    opset = 23 if kind == "RMSNormalization" else 17
    return Case([x], [n.floats(*width)], {"axis": first}, opset=opset)


@of("Reshape")
def _reshape(draw: Draw, n: Numbers, kind: str) -> Case:
    return Case([n.floats(2, 3, 4)], [n.one_of(i64(0, -1, 2), i64(24), i64(-1, 3), i64(4, 6))])


@of("Flatten")
def _flatten(draw: Draw, n: Numbers, kind: str) -> Case:
    return Case([n.floats(2, 3, 4)], [], {"axis": n.one_of(0, 1, 2, 3, -1)})


@of("Transpose")
def _transpose(draw: Draw, n: Numbers, kind: str) -> Case:
    order = draw(st.permutations(range(3)))
    return Case([n.floats(2, 3, 4)], [], n.one_of({}, {"perm": list(order)}))


@of("Squeeze", "Unsqueeze")
def _axes(draw: Draw, n: Numbers, kind: str) -> Case:
    if kind == "Unsqueeze":
        return Case([n.floats(2, 3)], [i64(*n.axes(4, 2)[:2])])
    return Case([n.floats(1, 3, 1)], n.one_of([], [i64(0)], [i64(-1, 0)]))


@of("Concat", "Split")
def _parts(draw: Draw, n: Numbers, kind: str) -> Case:
    axis = n.axis(3)
    if kind == "Concat":
        other = [2, 3, 4]
        other[axis] = 2
        return Case([n.floats(2, 3, 4), n.floats(*other)], [], {"axis": axis})
    x = n.floats(4, 4, 4)
    if draw(st.booleans()):
        return Case([x], [i64(1, 3)], {"axis": axis}, outputs=2)
    return Case([x], [], {"axis": axis, "num_outputs": 2}, outputs=2)


@of("Shape")
def _shape(draw: Draw, n: Numbers, kind: str) -> Case:
    raise NotImplementedError  # a constant; see `test_a_size_that_is_free_stays_free`


@of("Gather", "GatherElements", "ScatterElements")
def _by_axis(draw: Draw, n: Numbers, kind: str) -> Case:
    axis = n.axis(3)
    x, size = n.floats(2, 3, 4), (2, 3, 4)[axis]
    if kind == "Gather":
        places = n.whole(*n.one_of((), (3,), (2, 2)), low=-size, high=size - 1)
        return Case([x], [places], {"axis": axis})
    shape = [2, 3, 4]
    shape[axis] = n.one_of(1, size)
    if kind == "GatherElements":
        shape[0] = n.one_of(1, shape[0])
    order = np.argsort(n.rng.random((*shape[: axis % 3], size, *shape[axis % 3 + 1 :])), axis)
    places = np.take(order, range(shape[axis]), axis) - size * n.one_of(0, 1)
    if kind == "GatherElements":
        return Case([x, places], [], {"axis": axis})
    mode = n.one_of("none", "add", "mul")
    return Case([x, places, n.floats(*shape)], [], {"axis": axis, "reduction": mode})


@of("GatherND", "ScatterND")
def _by_place(draw: Draw, n: Numbers, kind: str) -> Case:
    x, width = n.floats(2, 3, 4), n.one_of(1, 2, 3)
    whole = np.stack(np.unravel_index(n.rng.permutation(24)[:2], x.shape), -1)[:, :width]
    places = whole.astype(np.int64) - np.array(x.shape)[:width] * n.one_of(0, 1)
    if kind == "GatherND":
        return Case([x, places])
    if len(np.unique(whole, axis=0)) == 1:
        places = places[:1]
    return Case([x, places, n.floats(len(places), *x.shape[width:])])


@of("Slice")
def _slice(draw: Draw, n: Numbers, kind: str) -> Case:
    axes = n.axes(3)
    bounds = st.integers(-6, 6) | st.sampled_from([2**63 - 1, -(2**63)])
    begins, ends = ([draw(bounds) for _ in axes] for _ in range(2))
    steps = [n.one_of(1, 2, -1, -2) for _ in axes]
    x = n.floats(4, 5, 3)
    size = {axis: x.shape[axis] for axis in axes}
    for place, axis in enumerate(axes):  # nothing is left of some, which no runtime here takes
        picked = range(size[axis])[begins[place] : ends[place] : steps[place]]
        if not picked:
            begins[place], ends[place], steps[place] = 0, 2, 1
    return Case([x], [i64(*begins), i64(*ends), i64(*axes), i64(*steps)])


@of("Expand", "Tile")
def _repeated(draw: Draw, n: Numbers, kind: str) -> Case:
    if kind == "Tile":
        return Case([n.floats(2, 3)], [i64(n.one_of(1, 2), n.one_of(1, 3))])
    return Case([n.floats(3, 1)], [n.one_of(i64(3, 4), i64(2, 3, 4), i64(1, 1), i64(2, 1, 1))])


@of("Pad")
def _pad(draw: Draw, n: Numbers, kind: str) -> Case:
    mode = n.one_of("constant", "reflect", "edge", "wrap")
    amounts = [draw(st.integers(0 if mode != "constant" else -1, 2)) for _ in range(6)]
    x = n.floats(4, 5, 3)
    fill = n.one_of(None, f32(1.5)) if mode == "constant" else None
    if draw(st.booleans()):
        axes = n.axes(3, 2)[:2]
        return Case([x], [i64(*amounts[:4]), fill, i64(*axes)], {"mode": mode})
    return Case([x], [i64(*amounts), fill], {"mode": mode})


@of("TopK")
def _topk(draw: Draw, n: Numbers, kind: str) -> Case:
    attributes = {"axis": n.axis(2), "largest": n.one_of(0, 1)}
    x = n.rng.permutation(24).astype(np.float32).reshape(4, 6)
    return Case([x], [i64(n.one_of(1, 3))], attributes, outputs=2)


@of("OneHot")
def _one_hot(draw: Draw, n: Numbers, kind: str) -> Case:
    places = n.whole(2, 3, low=-4, high=3)
    return Case([places], [np.array(4, np.int64), n.floats(2)], {"axis": n.axis(3)})


@of("Trilu")
def _trilu(draw: Draw, n: Numbers, kind: str) -> Case:
    shift = np.array(draw(st.integers(-3, 3)), np.int64)
    return Case([n.floats(2, 3, 4)], [shift], {"upper": n.one_of(0, 1)})


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


@of("LSTM", "GRU", "RNN")
def _recurrent(draw: Draw, n: Numbers, kind: str) -> Case:
    gates, states = {"LSTM": (4, 2), "GRU": (3, 1), "RNN": (1, 1)}[kind]
    direction = n.one_of("forward", "reverse", "bidirectional")
    ways, hidden = 1 + (direction == "bidirectional"), 3
    weights = [n.floats(ways, gates * hidden, 4), n.floats(ways, gates * hidden, hidden)]
    bias = n.one_of(None, n.floats(ways, 2 * gates * hidden))
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if kind == "GRU":
        attributes["linear_before_reset"] = n.one_of(0, 1)
    if kind == "RNN" and draw(st.booleans()):
        attributes["activations"] = ["Relu"] * ways
    first = [n.floats(ways, 2, hidden) for _ in range(states)]
    given = n.one_of([None] * states, first)
    x = n.floats(n.one_of(1, 5), 2, 4)
    return Case([x], [*weights, bias, None, *given], attributes, outputs=1 + states)


@of("MultiHeadAttention")
def _attention(draw: Draw, n: Numbers, kind: str) -> Case:
    query, key, value = n.floats(1, 3, 8), n.floats(1, 5, 8), n.floats(1, 5, 8)
    bias = n.one_of(None, n.floats(24))
    attributes = n.one_of({"num_heads": 2}, {"num_heads": 2, "scale": 0.3})
    return Case([query, key, value], [bias], attributes, domain="com.microsoft")
