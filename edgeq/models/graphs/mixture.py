"""The operators of a mixture of experts: each computes the rows of those tokens that chose it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeq.models.architectures.experts import PREFERENCE, Experts
from edgeq.models.graphs.decoder_parts import DecoderParts
from edgeq.models.graphs.rewriting import CONTRIB, GraphWriter

FeedForward = Callable[[int, ir.Value], ir.Value]
"""An expert's number and rows (tokens, hidden) to its output."""


def mixed_experts(parts: DecoderParts, stem: str, hidden: ir.Value, experts: Experts) -> ir.Value:
    """What a layer's experts make of `hidden`, (1, tokens, hidden), with the one that all share."""

    def feed_forward(expert: int, rows: ir.Value) -> ir.Value:
        own = f"{stem}.experts.{expert}"
        if experts.limit is None:
            return parts.feed_forward(own, rows)
        gate, up = (
            parts.linear(rows, f"{own}.{name}_proj", bias=experts.bias) for name in ("gate", "up")
        )
        gated = _limited(parts, gate, up, experts.limit)
        return parts.linear(gated, f"{own}.down_proj", bias=experts.bias)

    scores = parts.linear(hidden, f"{stem}.gate", bias=experts.bias)
    preference = None
    if experts.preference:
        name = f"{stem.removesuffix('mlp')}{PREFERENCE}"
        preference = parts.writer.constant(name, parts.vector(name))
    mixed = _mixture(parts.writer, experts, hidden, scores, preference, feed_forward)
    return parts.append("Add", [mixed, _shared(parts, stem, hidden)]) if experts.shared else mixed


def _shared(parts: DecoderParts, stem: str, hidden: ir.Value) -> ir.Value:
    """What the expert that every token passes through makes of it, times its share."""
    share = parts.linear(hidden, f"{stem}.shared_expert_gate", bias=False)
    fed = parts.feed_forward(f"{stem}.shared_expert", hidden)
    return parts.append("Mul", [fed, parts.append("Sigmoid", [share])])


def _limited(parts: DecoderParts, gate: ir.Value, up: ir.Value, limit: float) -> ir.Value:
    least, most, one = (
        parts.writer.constant("limit", np.array(number, np.float32))
        for number in (-limit, limit, 1)
    )
    gate = parts.append("Clip", [gate, None, most])
    gate = parts.append("QuickGelu", [gate], {"alpha": 1.702}, domain=CONTRIB)
    up = parts.append("Add", [parts.append("Clip", [up, least, most]), one])
    return parts.append("Mul", [gate, up])


def _mixture(
    writer: GraphWriter,
    experts: Experts,
    hidden: ir.Value,
    scores: ir.Value,
    preference: ir.Value | None,
    feed_forward: FeedForward,
) -> ir.Value:
    """The sum of what the used experts make of each token, times their shares.

    hidden: (1, tokens, hidden). scores: of the router, (1, tokens, experts). preference: (experts,)
    where experts are chosen by their shares plus that.
    """
    append = writer.append
    first, second = (writer.constant("axes", np.array([axis], np.int64)) for axis in (0, 1))
    rows = append("Squeeze", [hidden, first])
    shares = _shares(writer, experts, append("Squeeze", [scores, first]), preference)
    zero = ir.tensor(np.zeros(1, np.float32))
    total = append("ConstantOfShape", [append("Shape", [rows])], {"value": zero})
    for expert in range(experts.count):
        number = writer.constant("expert", np.array(expert, np.int64))
        share = append("Gather", [shares, number], {"axis": 1})
        chosen = append("Squeeze", [append("NonZero", [share]), first])
        fed = feed_forward(expert, append("Gather", [rows, chosen]))
        weight = append("Unsqueeze", [append("Gather", [share, chosen]), second])
        places = append("Unsqueeze", [chosen, second])
        more = append("Mul", [fed, weight])
        total = append("ScatterND", [total, places, more], {"reduction": "add"})
    return append("Unsqueeze", [total, first])


def _shares(
    writer: GraphWriter, experts: Experts, scores: ir.Value, preference: ir.Value | None
) -> ir.Value:
    """Each expert's share of each token, (tokens, experts), zero for those that are not used."""
    append = writer.append
    shares = append("Sigmoid" if experts.sigmoid else "Softmax", [scores])
    count = writer.constant("used", np.array([experts.used], np.int64))
    ranked = shares if preference is None else append("Add", [shares, preference])
    largest, chosen = writer.append_all("TopK", [ranked, count], {"axis": -1}, 2)
    if preference is not None:
        largest = append("GatherElements", [shares, chosen], {"axis": -1})
    if experts.normalized:
        last = writer.constant("axes", np.array([-1], np.int64))
        largest = append("Div", [largest, append("ReduceSum", [largest, last])])
    if experts.scale != 1:
        factor = writer.constant("scale", np.array(experts.scale, np.float32))
        largest = append("Mul", [largest, factor])
    zero = ir.tensor(np.zeros(1, np.float32))
    none = append("ConstantOfShape", [append("Shape", [shares])], {"value": zero})
    return append("ScatterElements", [none, chosen, largest], {"axis": -1})
