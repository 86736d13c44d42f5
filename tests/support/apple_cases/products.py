"""Products, attention, norms of rows, reductions and recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.support.apple_cases.base import Case, Draw, Numbers, i64, of


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


@of("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "LpNormalization")
@of("SkipLayerNormalization")
def _last_norm(draw: Draw, n: Numbers, kind: str) -> Case:
    x, first = n.floats(2, 3, 4), n.one_of(1, 2, -1)
    width = x.shape[first:]
    if kind == "LpNormalization":
        x[0] *= n.one_of(0, 1)
        return Case([x], [], {"axis": n.axis(3), "p": 2})
    if kind == "SkipLayerNormalization":
        more = [n.floats(4), n.one_of(None, n.floats(4)), n.one_of(None, n.floats(4))]
        return Case([x, n.floats(2, 3, 4)], list(more), domain="com.microsoft")
    if kind == "LayerNormalization":
        bias = n.one_of(None, n.floats(*width))
        return Case([x], [n.floats(*width), bias], {"axis": first})
    opset = 23 if kind == "RMSNormalization" else 17
    return Case([x], [n.floats(*width)], {"axis": first}, opset=opset)


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
