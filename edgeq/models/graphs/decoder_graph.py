"""The operators of a language model, on onnxruntime's GroupQueryAttention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.core.metadata_keys import CONTEXT_KEY, SWITCH_KEY
from edgeq.models.architectures import Decoder
from edgeq.models.architectures.experts import PREFERENCE, Experts
from edgeq.models.graphs.decoder_rope import Rotation, Rotations
from edgeq.models.graphs.delta_rule import DeltaRule, convolved
from edgeq.models.graphs.mixture import mixture
from edgeq.models.graphs.rewriting import CONTRIB, GraphWriter
from edgeq.models.graphs.streamed import StreamedTensor
from edgeq.models.weights import Weights

_OPSET = 21
_IR_VERSION = 10
_SINK_INPUT = 11  # of GroupQueryAttention
_END = np.iinfo(np.int64).max

_LARGEST_KEPT_WINDOW = 1024
_WINDOW_SLACK = 128  # positions: a full cache is shifted once per this many steps

Table = tuple[ir.Value, ir.Value]


@dataclass(frozen=True)
class _Positions:
    """Positions of the tokens, for attention.

    last: int32 (1,), index of the last position. total: int32 (1,). ids: int64 (1, tokens), rows of
    the tables, or None if they are the positions. growth: factors of queries, (1, tokens, 1), None
    if they do not grow. begun: bool (1,), whether any text precedes, None if nothing depends on it.
    whole, windowed: cosines and sines.
    """

    last: ir.Value
    total: ir.Value
    ids: ir.Value | None
    growth: ir.Value | None
    begun: ir.Value | None
    whole: Table
    windowed: Table


def cache_capacity(decoder: Decoder, layer: int) -> int | None:
    """The fixed cache capacity of a layer in positions; None if the caller chooses it.

    Layers with a short window (Gemma 3) keep only the window and some room for shifting. With a
    long one they keep every position, as the others do: usual contexts are shorter.
    """
    window = decoder.windows[layer]
    if window is None or window > _LARGEST_KEPT_WINDOW:
        return None
    return window + _WINDOW_SLACK


def carried(decoder: Decoder, layer: int) -> dict[str, list[int | str]]:
    """What a layer carries from one call to the next: shapes of float32, by name.

    It is the input `past_key_values.{layer}.{name}` and the output `present.{layer}.{name}`. A word
    stands for the positions that the caller chooses. At a text's beginning any content will do.
    """
    other = decoder.carried(layer)
    if other is not None:
        return {name: list(shape) for name, shape in other.items()}
    positions = cache_capacity(decoder, layer) or "capacity"
    shape = [1, decoder.kv_heads, positions, decoder.head_dim]
    return {"key": shape, "value": list(shape)}


class DecoderGraph:
    """Builds one model, layer by layer, at the end of its graph.

    Weights keep the orientation of their files, outputs first, which FusedMatMul supports: an
    embedding table that is also the output layer is then one constant.
    """

    def __init__(self, decoder: Decoder, weights: Weights, context: int) -> None:
        """context: rows of the rotary tables."""
        self._decoder = decoder
        self._weights = weights
        self._context = context
        graph = ir.Graph([], [], nodes=[], opset_imports={"": _OPSET}, name="decoder")
        self._model = ir.Model(graph, ir_version=_IR_VERSION, producer_name="edgeq")
        self._writer = GraphWriter(self._model)
        self._append = self._writer.append

    def build(self, turned: Rotations) -> ir.Model:
        """The whole model; `export_decoder` documents its inputs and outputs."""
        decoder = self._decoder
        ids = self._input("input_ids", ir.DataType.INT64, [1, "tokens"])
        past = self._input("past_length", ir.DataType.INT64, [1])
        keep = self._input("logits_to_keep", ir.DataType.INT64, [1])
        positions = self._positions(ids, past, turned)
        table = self._matrix("model.embed_tokens.weight")
        hidden = self._append("Gather", [table, ids])
        hidden = self._scaled(hidden, decoder.embedding_scale)
        present: list[ir.Value] = []
        for layer in range(decoder.layers):
            hidden = self._layer(layer, hidden, positions, present)
        first = self._append("Neg", [keep])
        hidden = self._append("Slice", [hidden, first, self._numbers([_END]), self._numbers([1])])
        hidden = self._norm(hidden, "model.norm.weight")
        output = table if decoder.tied else self._matrix("lm_head.weight")
        logits = self._scaled(self._product(hidden, output), decoder.logit_scale)
        logits = self._capped(logits, decoder.logit_softcap)
        self._output(logits, "logits", [1, "kept", decoder.vocabulary])
        layers = [(n, carried(decoder, n)) for n in range(decoder.layers)]
        shapes = [(f"present.{n}.{name}", own[name]) for n, own in layers for name in own]
        for value, (name, shape) in zip(present, shapes, strict=True):
            # The cache may have been too short for the tokens.
            self._output(value, name, [n if isinstance(n, int) else "present" for n in shape])
        self._model.metadata_props[CONTEXT_KEY] = str(self._context)
        if positions.ids is not None:
            self._model.metadata_props[SWITCH_KEY] = str(turned.switch)
        return self._model

    def _positions(self, ids: ir.Value, past: ir.Value, turned: Rotations) -> _Positions:
        count = self._append("Shape", [ids], {"start": 1})
        total = self._append("Add", [past, count])
        last = self._append("Sub", [total, self._numbers([1])])
        to_int32 = {"to": ir.DataType.INT32.value}
        begun = None
        if self._decoder.state_bytes:
            begun = self._append("Greater", [past, self._numbers([0])])
        last32 = self._append("Cast", [last], to_int32)
        total32 = self._append("Cast", [total], to_int32)
        if turned.beyond is None:
            whole = self._table("rope", turned.whole)
            same = turned.windowed is turned.whole
            windowed = whole if same else self._table("rope.windowed", turned.windowed)
            growth = self._growth(past, total) if self._decoder.query_growth else None
            return _Positions(last32, total32, None, growth, begun, whole, windowed)
        # Both sets of angles are one table: the long ones begin after `switch` rows.
        length = self._input("text_length", ir.DataType.INT64, [1])
        switch = self._numbers([turned.switch])
        is_long = self._append("Greater", [length, switch])
        is_long = self._append("Cast", [is_long], {"to": ir.DataType.INT64.value})
        offset = self._append("Mul", [is_long, switch])
        rows = self._range(past, total)
        rows = self._append("Unsqueeze", [self._append("Add", [rows, offset]), self._numbers([0])])
        table = self._table("rope", turned.whole, turned.beyond, turned.switch)
        return _Positions(last32, total32, rows, None, begun, table, table)

    def _range(self, past: ir.Value, total: ir.Value) -> ir.Value:
        """The position of every token, int64 (tokens,)."""
        scalar = [self._append("Squeeze", [value]) for value in (past, total)]
        one = self._writer.constant("one", np.array(1, np.int64))
        return self._append("Range", [*scalar, one])

    def _growth(self, past: ir.Value, total: ir.Value) -> ir.Value:
        decoder = self._decoder
        turns = self._append(
            "Div", [self._range(past, total), self._numbers([decoder.rope.original])]
        )
        turns = self._append("Cast", [turns], {"to": ir.DataType.FLOAT.value})
        one = self._writer.constant("one", np.array(1, np.float32))
        growth = self._append("Log", [self._append("Add", [turns, one])])
        factors = self._append("Add", [self._scaled(growth, decoder.query_growth), one])
        return self._append("Unsqueeze", [factors, self._numbers([0, 2])])

    def _layer(
        self, layer: int, hidden: ir.Value, positions: _Positions, present: list[ir.Value]
    ) -> ir.Value:
        norms, stem = self._decoder.norms, f"model.layers.{layer}"
        inner = self._normed(hidden, stem, norms.before_attention)
        mixed = self._mixed(layer, inner, positions, present)
        hidden = self._added(hidden, self._normed(mixed, stem, norms.after_attention))
        inner = self._normed(hidden, stem, norms.before_feed_forward)
        experts = self._decoder.experts_of(layer)
        fed = (
            self._mixture(f"{stem}.mlp", inner, experts)
            if experts
            else self._feed_forward(f"{stem}.mlp", inner)
        )
        return self._added(hidden, self._normed(fed, stem, norms.after_feed_forward))

    def _mixed(
        self, layer: int, hidden: ir.Value, positions: _Positions, present: list[ir.Value]
    ) -> ir.Value:
        if self._decoder.attends(layer):
            return self._attention(layer, hidden, positions, present)
        delta, past = self._decoder.delta, self._begun(layer, positions)
        if delta is None:
            return self._convolution(layer, hidden, past, present)
        rule = DeltaRule(self._writer, self._weights, delta, self._decoder.norm_eps)
        stem = f"model.layers.{layer}.linear_attn"
        parts = ("qkv", "z", "b", "a")
        given = [self._linear(hidden, f"{stem}.in_proj_{part}", bias=False) for part in parts]
        gated = rule.build(stem, given, past, present)
        return self._linear(gated, f"{stem}.out_proj", bias=False)

    def _begun(self, layer: int, positions: _Positions) -> list[ir.Value]:
        """What a layer has carried on; zeros at the beginning of a text."""
        assert positions.begun is not None
        nothing = self._writer.constant("nothing", np.array(0, np.float32))
        past = self._past(layer)
        return [self._append("Where", [positions.begun, value, nothing]) for value in past]

    def _added(self, hidden: ir.Value, more: ir.Value) -> ir.Value:
        return self._append("Add", [hidden, self._scaled(more, self._decoder.residual_scale)])

    def _attention(
        self, layer: int, hidden: ir.Value, positions: _Positions, present: list[ir.Value]
    ) -> ir.Value:
        decoder, stem = self._decoder, f"model.layers.{layer}.self_attn"
        query: ir.Value
        gate: ir.Value | None = None
        key: ir.Value | None = None
        value: ir.Value | None = None
        if decoder.fused_qkv:
            query = self._linear(hidden, f"{stem}.qkv_proj", bias=decoder.qkv_bias)
        else:
            query, key, value = (
                self._linear(hidden, f"{stem}.{name}_proj", bias=decoder.qkv_bias) for name in "qkv"
            )
            if decoder.output_gate:
                query, gate = self._gated_query(query)
            if decoder.qk_norm:
                query = self._query_norm(query, f"{stem}.q_norm.weight", decoder.heads)
                key = self._query_norm(key, f"{stem}.k_norm.weight", decoder.kv_heads)
        if positions.growth is not None:
            query = self._append("Mul", [query, positions.growth])
        capacity = cache_capacity(decoder, layer)
        past = self._past(layer)
        window = decoder.windows[layer]
        tables: tuple[ir.Value | None, ...] = (None, None)
        if decoder.rotates[layer]:
            tables = positions.whole if window is None else positions.windowed
            tables += () if positions.ids is None else (positions.ids,)
        attributes: dict[str, int | float] = {
            "num_heads": decoder.heads,
            "kv_num_heads": decoder.kv_heads,
            "scale": decoder.attention_scale,
            "do_rotary": int(decoder.rotates[layer]),
            "rotary_interleaved": int(decoder.interleaved),
        }
        if window is not None:
            attributes["local_window_size"] = window
        if capacity is not None:
            attributes["sliding_window_cache"] = 1
        if decoder.attention_softcap is not None:
            attributes["softcap"] = decoder.attention_softcap
        inputs = [query, key, value, *past, positions.last, positions.total, *tables]
        if decoder.sinks:
            name = f"{stem}.sinks.weight"
            inputs += [None] * (_SINK_INPUT - len(inputs))
            inputs.append(self._writer.constant(name, self._vector(name)))
        attended = self._append(
            "GroupQueryAttention", inputs, attributes, domain=CONTRIB, outputs=3
        )
        producer = attended.producer()
        assert producer is not None
        present += producer.outputs[1:]
        if gate is not None:
            attended = self._append("Mul", [attended, self._append("Sigmoid", [gate])])
        return self._linear(attended, f"{stem}.o_proj", bias=decoder.output_bias)

    def _gated_query(self, both: ir.Value) -> Sequence[ir.Value]:
        """Queries and gates: they alternate, head by head."""
        decoder = self._decoder
        heads = self._numbers([1, -1, decoder.heads, 2 * decoder.head_dim])
        parts = self._split(self._append("Reshape", [both, heads]), 2)
        whole = self._numbers([1, -1, decoder.heads * decoder.head_dim])
        return [self._append("Reshape", [part, whole]) for part in parts]

    def _convolution(
        self, layer: int, hidden: ir.Value, past: list[ir.Value], present: list[ir.Value]
    ) -> ir.Value:
        kind, stem = self._decoder.convolution, f"model.layers.{layer}.conv"
        assert kind is not None
        parts = self._linear(hidden, f"{stem}.in_proj", bias=kind.bias)
        gate, second, value = self._split(parts, 3)
        given, name = self._append("Mul", [gate, value]), f"{stem}.conv.weight"
        summed, left = convolved(self._writer, past[0], given, name, self._vector(name))
        present.append(left)
        if kind.bias:
            bias = self._writer.constant(f"{stem}.conv.bias", self._vector(f"{stem}.conv.bias"))
            summed = self._append("Add", [summed, bias])
        gated = self._append("Mul", [second, summed])
        return self._linear(gated, f"{stem}.out_proj", bias=kind.bias)

    def _past(self, layer: int) -> list[ir.Value]:
        return [
            self._input(f"past_key_values.{layer}.{name}", ir.DataType.FLOAT, shape)
            for name, shape in carried(self._decoder, layer).items()
        ]

    def _split(self, value: ir.Value, count: int) -> Sequence[ir.Value]:
        """Equal parts of the columns."""
        return self._writer.append_all("Split", [value], {"axis": -1, "num_outputs": count}, count)

    def _mixture(self, stem: str, hidden: ir.Value, experts: Experts) -> ir.Value:
        def feed_forward(expert: int, rows: ir.Value) -> ir.Value:
            own = f"{stem}.experts.{expert}"
            if experts.limit is None:
                return self._feed_forward(own, rows)
            gate, up = (
                self._linear(rows, f"{own}.{name}_proj", bias=experts.bias)
                for name in ("gate", "up")
            )
            gated = self._limited(gate, up, experts.limit)
            return self._linear(gated, f"{own}.down_proj", bias=experts.bias)

        scores = self._linear(hidden, f"{stem}.gate", bias=experts.bias)
        preference = None
        if experts.preference:
            name = f"{stem.removesuffix('mlp')}{PREFERENCE}"
            preference = self._writer.constant(name, self._vector(name))
        mixed = mixture(self._writer, experts, hidden, scores, preference, feed_forward)
        return self._append("Add", [mixed, self._shared(stem, hidden)]) if experts.shared else mixed

    def _shared(self, stem: str, hidden: ir.Value) -> ir.Value:
        """What the expert that every token passes through makes of it, times its share."""
        share = self._linear(hidden, f"{stem}.shared_expert_gate", bias=False)
        fed = self._feed_forward(f"{stem}.shared_expert", hidden)
        return self._append("Mul", [fed, self._append("Sigmoid", [share])])

    def _limited(self, gate: ir.Value, up: ir.Value, limit: float) -> ir.Value:
        least, most, one = (
            self._writer.constant("limit", np.array(number, np.float32))
            for number in (-limit, limit, 1)
        )
        gate = self._append("Clip", [gate, None, most])
        gate = self._append("QuickGelu", [gate], {"alpha": 1.702}, domain=CONTRIB)
        up = self._append("Add", [self._append("Clip", [up, least, most]), one])
        return self._append("Mul", [gate, up])

    def _feed_forward(self, stem: str, hidden: ir.Value) -> ir.Value:
        if self._decoder.fused_gate_up:
            both = self._linear(hidden, f"{stem}.gate_up_proj", bias=False)
            gate, up = self._split(both, 2)
        else:
            gate = self._linear(hidden, f"{stem}.gate_proj", bias=False)
            up = self._linear(hidden, f"{stem}.up_proj", bias=False)
        if self._decoder.activation == "silu":
            gate = self._append("QuickGelu", [gate], {"alpha": 1.0}, domain=CONTRIB)
        else:
            gate = self._append("FastGelu", [gate], domain=CONTRIB)
        gated = self._append("Mul", [gate, up])
        return self._linear(gated, f"{stem}.down_proj", bias=False)

    def _linear(self, hidden: ir.Value, stem: str, *, bias: bool) -> ir.Value:
        product = self._product(hidden, self._matrix(f"{stem}.weight"))
        if not bias:
            return product
        name = f"{stem}.bias"
        return self._append("Add", [product, self._writer.constant(name, self._vector(name))])

    def _product(self, hidden: ir.Value, weight: ir.Value) -> ir.Value:
        return self._append("FusedMatMul", [hidden, weight], {"transB": 1}, domain=CONTRIB)

    def _norm(self, hidden: ir.Value, name: str) -> ir.Value:
        gain = self._vector(name) + np.float32(self._decoder.norm_plus_one)
        attributes = {"epsilon": self._decoder.norm_eps, "axis": -1, "stash_type": 1}
        inputs = [hidden, self._writer.constant(name, gain)]
        return self._append("SimplifiedLayerNormalization", inputs, attributes)

    def _normed(self, hidden: ir.Value, stem: str, name: str | None) -> ir.Value:
        return hidden if name is None else self._norm(hidden, f"{stem}.{name}.weight")

    def _query_norm(self, value: ir.Value, name: str, heads: int) -> ir.Value:
        """A norm over each head's columns, or over those of all heads."""
        if self._decoder.qk_norm == "whole":
            return self._norm(value, name)
        width = self._decoder.head_dim
        split = self._append("Reshape", [value, self._numbers([1, -1, width])])
        normed = self._norm(split, name)
        return self._append("Reshape", [normed, self._numbers([1, -1, heads * width])])

    def _capped(self, value: ir.Value, cap: float | None) -> ir.Value:
        if cap is None:
            return value
        return self._scaled(self._append("Tanh", [self._scaled(value, 1 / cap)]), cap)

    def _scaled(self, value: ir.Value, factor: float) -> ir.Value:
        if factor == 1:
            return value
        constant = self._writer.constant("scale", np.array(factor, np.float32))
        return self._append("Mul", [value, constant])

    def _matrix(self, name: str) -> ir.Value:
        shape = self._weights.shape(name)

        def read(start: int, stop: int) -> np.ndarray:
            return self._weights.rows(name, start, stop)

        tensor = StreamedTensor(name, ir.DataType.FLOAT, shape, read)
        return self._writer.constant(name, tensor)

    def _vector(self, name: str) -> np.ndarray:
        return self._weights.read(name)

    def _table(
        self, name: str, near: Rotation, beyond: Rotation | None = None, switch: int = 0
    ) -> Table:
        """Cosines and sines of `near`, and with `beyond` its own from row `switch` on."""
        shape = (self._context + switch, len(near.frequencies))

        def reader(part: str) -> StreamedTensor:
            def read(start: int, stop: int) -> np.ndarray:
                pieces = []
                if start < switch or beyond is None:
                    end = stop if beyond is None else min(stop, switch)
                    pieces.append(getattr(near, part)(start, end))
                if beyond is not None and stop > switch:
                    pieces.append(getattr(beyond, part)(max(start - switch, 0), stop - switch))
                return np.concatenate(pieces)

            return StreamedTensor(f"{name}.{part}", ir.DataType.FLOAT, shape, read)

        cosines, sines = (
            self._writer.constant(f"{name}.{part}", reader(part)) for part in ("cosines", "sines")
        )
        return cosines, sines

    def _numbers(self, values: list[int]) -> ir.Value:
        return self._writer.constant("numbers", np.array(values, np.int64))

    def _input(self, name: str, dtype: ir.DataType, shape: list[int | str]) -> ir.Value:
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self._model.graph.inputs.append(value)
        return value

    def _output(self, value: ir.Value, name: str, shape: list[int | str]) -> None:
        value.name = name
        value.shape = ir.Shape(shape)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        self._model.graph.outputs.append(value)
