"""The operators of linear attention, whose layers carry on a matrix in place of a cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeq.models.architectures.delta import Delta
from edgeq.models.graphs.decoder_parts import DecoderParts
from edgeq.models.graphs.rewriting import CONTRIB, GraphWriter
from edgeq.models.graphs.short_convolution import convolved
from edgeq.models.weights import Weights

_EPSILON = 1e-6  # of the lengths of queries and keys, in transformers


def linear_attention(
    parts: DecoderParts,
    delta: Delta,
    stem: str,
    hidden: ir.Value,
    past: Sequence[ir.Value],
    present: list[ir.Value],
) -> ir.Value:
    """A layer's output for `hidden`, (1, tokens, hidden). past: as by `Delta.carried`; `present` is
    extended by them.
    """
    rule = _DeltaRule(parts.writer, parts.weights, delta, parts.decoder.norm_eps)
    names = ("qkv", "z", "b", "a")
    given = [parts.linear(hidden, f"{stem}.in_proj_{name}", bias=False) for name in names]
    gated = rule.build(stem, given, past, present)
    return parts.linear(gated, f"{stem}.out_proj", bias=False)


class _DeltaRule:
    """Builds a layer's gated delta rule, between the products in front of it and behind it."""

    def __init__(self, writer: GraphWriter, weights: Weights, delta: Delta, eps: float) -> None:
        """eps: of the norm of its output."""
        self._writer, self._weights, self._delta, self._eps = writer, weights, delta, eps
        self._append = writer.append

    def build(
        self,
        stem: str,
        given: Sequence[ir.Value],
        past: Sequence[ir.Value],
        present: list[ir.Value],
    ) -> ir.Value:
        """The layer's gated output, (1, tokens, values).

        given: queries, keys and values, then what becomes the output's gate, how far the matrix
        moves, and how much it decays. past: as by `Delta.carried`; `present` is extended by them.
        """
        delta, append = self._delta, self._append
        mixed, gate, beta, decay = given
        name = f"{stem}.conv1d.weight"
        mixed, left = convolved(self._writer, past[0], mixed, name, self._weights.read(name))
        mixed = append("QuickGelu", [mixed], {"alpha": 1.0}, domain=CONTRIB)
        sizes = self._numbers([delta.key, delta.key, delta.value])
        query, key, value = self._writer.append_all("Split", [mixed, sizes], {"axis": -1}, 3)
        decay = append("Add", [decay, self._vector(f"{stem}.dt.bias")])
        rates = -np.exp(self._weights.read(f"{stem}.A_log.weight"))
        decay = append(
            "Mul", [append("Softplus", [decay]), self._writer.constant(f"{stem}.rates", rates)]
        )
        inputs = [self._unit(query), self._unit(key), value, past[1], decay]
        output, state = self._writer.append_all(
            "LinearAttention",
            [*inputs, append("Sigmoid", [beta])],
            {
                "update_rule": "gated_delta",
                "q_num_heads": delta.value_heads,
                "kv_num_heads": delta.value_heads,
                "scale": delta.key_width**-0.5,
            },
            2,
            domain=CONTRIB,
        )
        present += [left, state]
        gate = append("QuickGelu", [gate], {"alpha": 1.0}, domain=CONTRIB)
        by_head = append("Reshape", [output, self._numbers([1, -1, delta.value_width])])
        # By another name than the original's, whose norm multiplies by the gate as well.
        gain = self._writer.constant(f"{stem}.gain", self._weights.read(f"{stem}.norm.weight"))
        normed = self._norm(by_head, gain, self._eps)
        whole = append("Reshape", [normed, self._numbers([1, -1, delta.value])])
        return append("Mul", [whole, gate])

    def _unit(self, value: ir.Value) -> ir.Value:
        """Vectors of length 1 for each head, in as many heads as values have."""
        width, heads = self._delta.key_width, self._delta.key_heads
        by_head = self._append("Reshape", [value, self._numbers([1, -1, width])])
        gain = self._writer.constant("unit", np.full(width, width**-0.5, np.float32))
        normed = self._norm(by_head, gain, _EPSILON / width)
        shared = self._delta.value_heads // heads
        if shared > 1:
            normed = self._append("Reshape", [normed, self._numbers([-1, heads, 1, width])])
            normed = self._append("Expand", [normed, self._numbers([1, 1, shared, 1])])
        whole = self._numbers([1, -1, self._delta.value_heads * width])
        return self._append("Reshape", [normed, whole])

    def _norm(self, value: ir.Value, gain: ir.Value, eps: float) -> ir.Value:
        attributes = {"epsilon": eps, "axis": -1, "stash_type": 1}
        return self._append("SimplifiedLayerNormalization", [value, gain], attributes)

    def _vector(self, name: str) -> ir.Value:
        return self._writer.constant(name, self._weights.read(name))

    def _numbers(self, values: list[int]) -> ir.Value:
        return self._writer.constant("numbers", np.array(values, np.int64))
