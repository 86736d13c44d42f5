"""Operators that work element by element."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto

from tests.support.apple_cases.base import Case, Draw, Numbers, f32, i64, of


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
