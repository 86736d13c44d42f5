"""The operators of a language model, on onnxruntime's GroupQueryAttention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeq.core.metadata_keys import CONTEXT_KEY, SWITCH_KEY
from edgeq.models.architectures import Decoder
from edgeq.models.graphs.altup import AltUpStates
from edgeq.models.graphs.decoder_parts import DecoderParts
from edgeq.models.graphs.decoder_positions import Positions, find_positions
from edgeq.models.graphs.decoder_rope import Rotations
from edgeq.models.graphs.delta_rule import linear_attention
from edgeq.models.graphs.mixture import mixed_experts
from edgeq.models.graphs.per_layer import mixed_in, per_layer_inputs
from edgeq.models.graphs.rewriting import CONTRIB, GraphWriter
from edgeq.models.graphs.short_convolution import short_convolution
from edgeq.models.weights import Weights

_OPSET = 21
_IR_VERSION = 10
_SINK_INPUT = 11  # of GroupQueryAttention
_END = np.iinfo(np.int64).max

_LARGEST_KEPT_WINDOW = 1024
_WINDOW_SLACK = 128  # positions: a full cache is shifted once per this many steps


def cache_capacity(decoder: Decoder, layer: int) -> int | None:
    """The fixed cache capacity of a layer in positions; None if the caller chooses it.

    Layers with a short window (Gemma 3) keep only the window and some room for shifting. With a
    long one they keep every position, as the others do: usual contexts are shorter.
    """
    window = decoder.windows[layer]
    if layer in decoder.borrowed.values():  # the borrower attends to positions that this one drops
        return None
    if window is None or window > _LARGEST_KEPT_WINDOW:
        return None
    return window + _WINDOW_SLACK


def carried(decoder: Decoder, layer: int) -> dict[str, list[int | str]]:
    """What a layer carries from one call to the next: shapes of float32, by name.

    It is the input `past_key_values.{layer}.{name}` and the output `present.{layer}.{name}`. A word
    stands for the positions that the caller chooses. At a text's beginning any content will do.
    """
    if layer in decoder.borrowed:
        return {}
    other = decoder.carried(layer)
    if other is not None:
        return {name: list(shape) for name, shape in other.items()}
    positions = cache_capacity(decoder, layer) or "capacity"
    shape = [1, decoder.kv_heads_of(layer), positions, decoder.head_dim_of(layer)]
    return {"key": shape, "value": list(shape)}


class DecoderGraph(DecoderParts):
    """Builds one model, layer by layer, at the end of its graph."""

    def __init__(self, decoder: Decoder, weights: Weights, context: int) -> None:
        """context: rows of the rotary tables."""
        self._context = context
        graph = ir.Graph([], [], nodes=[], opset_imports={"": _OPSET}, name="decoder")
        self._model = ir.Model(graph, ir_version=_IR_VERSION, producer_name="edgeq")
        super().__init__(decoder, weights, GraphWriter(self._model))
        self._kept: dict[int, Sequence[ir.Value]] = {}  # keys and values, for layers that borrow

    def build(self, turned: Rotations) -> ir.Model:
        """The whole model; `export_decoder` documents its inputs and outputs."""
        decoder = self.decoder
        ids = self.input("input_ids", ir.DataType.INT64, [1, "tokens"])
        past = self.input("past_length", ir.DataType.INT64, [1])
        keep = self.input("logits_to_keep", ir.DataType.INT64, [1])
        positions = find_positions(self, ids, past, turned, self._context)
        table = self.matrix("model.embed_tokens.weight")
        hidden = self.append("Gather", [table, ids])
        hidden = self.scaled(hidden, decoder.embedding_scale)
        present: list[ir.Value] = []
        hidden = self._through_layers(ids, hidden, positions, present)
        first = self.append("Neg", [keep])
        hidden = self.append("Slice", [hidden, first, self.numbers([_END]), self.numbers([1])])
        if decoder.altup:
            hidden = AltUpStates(self, decoder.altup).merged(hidden)
        hidden = self.norm(hidden, "model.norm.weight")
        output = table if decoder.tied else self.matrix("lm_head.weight")
        logits = self.scaled(self.product(hidden, output), decoder.logit_scale)
        logits = self.capped(logits, decoder.logit_softcap)
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

    def _through_layers(
        self, ids: ir.Value, hidden: ir.Value, positions: Positions, present: list[ir.Value]
    ) -> ir.Value:
        """The output of the last layer; with several states, all of them."""
        decoder = self.decoder
        inputs: Sequence[ir.Value] = ()
        if decoder.per_layer:
            inputs = per_layer_inputs(self, decoder.per_layer, ids, hidden)
        if decoder.altup is None:
            for layer in range(decoder.layers):
                hidden = self._layer(layer, hidden, positions, present)
                own = inputs[layer] if inputs else None
                hidden = self._finished(f"model.layers.{layer}", hidden, own)
            return hidden
        states = AltUpStates(self, decoder.altup)
        whole = states.spread(hidden)
        for layer in range(decoder.layers):
            stem = f"model.layers.{layer}"
            predicted = states.predicted(stem, whole)
            computed = self._computed(layer, states, predicted, positions, present)
            whole = states.corrected(stem, predicted, computed)
            more = mixed_in(self, stem, states.gated(stem, whole), inputs[layer])
            whole = states.added_behind_first(whole, more)
        return whole

    def _finished(self, stem: str, hidden: ir.Value, own: ir.Value | None) -> ir.Value:
        """A layer's output with what it adds on account of its own input, and its factor."""
        if own is not None:
            hidden = self.append("Add", [hidden, mixed_in(self, stem, hidden, own)])
        if not self.decoder.layer_scale:
            return hidden
        name = f"{stem}.layer_scale.weight"
        return self.append("Mul", [hidden, self.writer.constant(name, self.vector(name))])

    def _computed(
        self,
        layer: int,
        states: AltUpStates,
        predicted: ir.Value,
        positions: Positions,
        present: list[ir.Value],
    ) -> ir.Value:
        """The state that a layer computes, with a second way around its attention."""
        norms, stem, altup = self.decoder.norms, f"model.layers.{layer}", self.decoder.altup
        assert altup is not None
        hidden = states.active(predicted)
        inner = self.normed(hidden, stem, norms.before_attention)
        mixed = self._mixed(layer, inner, positions, present)
        mixed = self.normed(mixed, stem, norms.after_attention)
        both = self.append("Sum", [hidden, mixed, states.around(stem, inner)])
        hidden = self.scaled(both, 2**-0.5)
        inner = self.normed(hidden, stem, norms.before_feed_forward)
        fed = self.feed_forward(f"{stem}.mlp", inner, altup.sparsity[layer])
        return self.append("Add", [hidden, self.normed(fed, stem, norms.after_feed_forward)])

    def _layer(
        self, layer: int, hidden: ir.Value, positions: Positions, present: list[ir.Value]
    ) -> ir.Value:
        norms, stem = self.decoder.norms, f"model.layers.{layer}"
        inner = self.normed(hidden, stem, norms.before_attention)
        mixed = self._mixed(layer, inner, positions, present)
        hidden = self._added(hidden, self.normed(mixed, stem, norms.after_attention))
        inner = self.normed(hidden, stem, norms.before_feed_forward)
        experts = self.decoder.experts_of(layer)
        fed = (
            mixed_experts(self, f"{stem}.mlp", inner, experts)
            if experts
            else self.feed_forward(f"{stem}.mlp", inner)
        )
        return self._added(hidden, self.normed(fed, stem, norms.after_feed_forward))

    def _mixed(
        self, layer: int, hidden: ir.Value, positions: Positions, present: list[ir.Value]
    ) -> ir.Value:
        if self.decoder.attends(layer):
            return self._attention(layer, hidden, positions, present)
        past, stem = self._begun(layer, positions), f"model.layers.{layer}"
        delta, kind = self.decoder.delta, self.decoder.convolution
        if delta is not None:
            return linear_attention(self, delta, f"{stem}.linear_attn", hidden, past, present)
        assert kind is not None
        return short_convolution(self, kind, f"{stem}.conv", hidden, past[0], present)

    def _begun(self, layer: int, positions: Positions) -> list[ir.Value]:
        """What a layer has carried on; zeros at the beginning of a text."""
        assert positions.begun is not None
        nothing = self.writer.constant("nothing", np.array(0, np.float32))
        past = self._past(layer)
        return [self.append("Where", [positions.begun, value, nothing]) for value in past]

    def _added(self, hidden: ir.Value, more: ir.Value) -> ir.Value:
        return self.append("Add", [hidden, self.scaled(more, self.decoder.residual_scale)])

    def _attention(
        self, layer: int, hidden: ir.Value, positions: Positions, present: list[ir.Value]
    ) -> ir.Value:
        decoder, stem = self.decoder, f"model.layers.{layer}.self_attn"
        width = decoder.head_dim_of(layer)
        query, gate = self._query(stem, hidden, width)
        if positions.growth is not None:
            query = self.append("Mul", [query, positions.growth])
        lender = decoder.borrowed.get(layer)
        if lender is None:
            inputs = [query, *self._keys_and_values(layer, stem, hidden), *self._past(layer)]
        else:
            nothing = np.zeros((1, 0, decoder.kv_heads_of(layer) * width), np.float32)
            none = self.writer.constant("nothing", nothing)
            inputs = [query, none, none, *self._kept[lender]]
        inputs += [positions.last, positions.total, *self._tables(layer, positions)]
        if decoder.sinks:
            name = f"{stem}.sinks.weight"
            inputs += [None] * (_SINK_INPUT - len(inputs))
            inputs.append(self.writer.constant(name, self.vector(name)))
        attended, *kept = self.writer.append_all(
            "GroupQueryAttention",
            inputs,
            self._attributes(layer),
            1 if layer in decoder.borrowed else 3,
            domain=CONTRIB,
        )
        self._kept[layer] = kept
        present += kept
        if gate is not None:
            attended = self.append("Mul", [attended, self.append("Sigmoid", [gate])])
        return self.linear(attended, f"{stem}.o_proj", bias=decoder.output_bias)

    def _query(self, stem: str, hidden: ir.Value, width: int) -> tuple[ir.Value, ir.Value | None]:
        """Queries, and gates of attention's output; with joined weights keys and values, too."""
        decoder = self.decoder
        if decoder.fused_qkv:
            return self.linear(hidden, f"{stem}.qkv_proj", bias=decoder.qkv_bias), None
        query, gate = self.linear(hidden, f"{stem}.q_proj", bias=decoder.qkv_bias), None
        if decoder.output_gate:
            query, gate = self._gated_query(query)
        if decoder.qk_norm:
            query = self._query_norm(query, f"{stem}.q_norm.weight", decoder.heads, width)
        return query, gate

    def _keys_and_values(self, layer: int, stem: str, hidden: ir.Value) -> list[ir.Value | None]:
        """None for both if they are joined with the queries."""
        decoder = self.decoder
        heads, width = decoder.kv_heads_of(layer), decoder.head_dim_of(layer)
        if decoder.fused_qkv:
            return [None, None]
        key = value = self.linear(hidden, f"{stem}.k_proj", bias=decoder.qkv_bias)
        if not decoder.multiplies_once(layer):
            value = self.linear(hidden, f"{stem}.v_proj", bias=decoder.qkv_bias)
        if decoder.qk_norm:
            key = self._query_norm(key, f"{stem}.k_norm.weight", heads, width)
        if decoder.value_norm:
            gain = self.writer.constant("gain", np.ones(width, np.float32))
            split = self.append("Reshape", [value, self.numbers([1, -1, width])])
            whole = self.numbers([1, -1, heads * width])
            value = self.append("Reshape", [self.normed_by(split, gain), whole])
        return [key, value]

    def _tables(self, layer: int, positions: Positions) -> tuple[ir.Value | None, ...]:
        """Cosines, sines and their rows, as far as the layer has positions."""
        if not self.decoder.rotates[layer]:
            return None, None
        of_window = self.decoder.windows[layer] is not None
        tables = positions.windowed if of_window else positions.whole
        return tables if positions.ids is None else (*tables, positions.ids)

    def _attributes(self, layer: int) -> dict[str, int | float]:
        decoder, window = self.decoder, self.decoder.windows[layer]
        attributes: dict[str, int | float] = {
            "num_heads": decoder.heads,
            "kv_num_heads": decoder.kv_heads_of(layer),
            "scale": decoder.attention_scale,
            "do_rotary": int(decoder.rotates[layer]),
            "rotary_interleaved": int(decoder.interleaved),
        }
        if window is not None:
            attributes["local_window_size"] = window
        if cache_capacity(decoder, layer) is not None and layer not in decoder.borrowed:
            attributes["sliding_window_cache"] = 1
        if decoder.attention_softcap is not None:
            attributes["softcap"] = decoder.attention_softcap
        return attributes

    def _gated_query(self, both: ir.Value) -> Sequence[ir.Value]:
        """Queries and gates: they alternate, head by head."""
        decoder = self.decoder
        heads = self.numbers([1, -1, decoder.heads, 2 * decoder.head_dim])
        parts = self.split(self.append("Reshape", [both, heads]), 2)
        whole = self.numbers([1, -1, decoder.heads * decoder.head_dim])
        return [self.append("Reshape", [part, whole]) for part in parts]

    def _past(self, layer: int) -> list[ir.Value]:
        return [
            self.input(f"past_key_values.{layer}.{name}", ir.DataType.FLOAT, shape)
            for name, shape in carried(self.decoder, layer).items()
        ]

    def _query_norm(self, value: ir.Value, name: str, heads: int, width: int) -> ir.Value:
        """A norm over each head's columns, or over those of all heads."""
        if self.decoder.qk_norm == "whole":
            return self.norm(value, name)
        split = self.append("Reshape", [value, self.numbers([1, -1, width])])
        normed = self.norm(split, name)
        return self.append("Reshape", [normed, self.numbers([1, -1, heads * width])])

    def _output(self, value: ir.Value, name: str, shape: list[int | str]) -> None:
        value.name = name
        value.shape = ir.Shape(shape)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        self._model.graph.outputs.append(value)
