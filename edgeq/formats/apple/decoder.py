"""The operators of a language model with a stateful KV cache.

Shapes are (1, tokens, width) between layers. Each layer has two states, float16 (1, kv_heads,
context, head_dim): a call writes the keys and values of its tokens after the existing ones, and
attention covers all `context` places through a mask, so that only the number of tokens ever changes
a shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.apple.constants import Weight
from edgeq.formats.apple.positions import Places, find_places
from edgeq.formats.apple.writer import Input, Writer
from edgeq.models.architectures import Decoder
from edgeq.models.graphs.decoder_rope import Rotations
from edgeq.models.weights import Weights
from edgeq.quantize.number_formats import QuantizedTensor

IDS, POSITION, ROWS, LOGITS = "input_ids", "position", "rows", "logits"


def decoder_inputs(decoder: Decoder, context: int, tokens: tuple[int, ...]) -> list[Input]:
    """`input_ids` int32 (1, tokens), `position` int32 (1,), `rows` int32 (rows,), of as many tokens
    or one, and two states for every layer."""
    cache = (1, decoder.kv_heads, context, decoder.head_dim)
    states = [
        Input(state_name(layer, part), (cache,), "state")
        for layer in range(decoder.layers)
        for part in ("key", "value")
    ]
    ids = Input(IDS, tuple((1, count) for count in tokens), "int32")
    rows = Input(ROWS, tuple((count,) for count in sorted({1, *tokens})), "int32")
    return [ids, Input(POSITION, ((1,),), "int32"), rows, *states]


def state_name(layer: int, part: str) -> str:
    """The name of the state with the keys (`key`) or values (`value`) of a layer."""
    return f"cache_{layer}_{part}"


class DecoderProgram:
    """Builds one model into a writer, whose inputs are `decoder_inputs`."""

    def __init__(
        self,
        decoder: Decoder,
        weights: Weights,
        codes: Mapping[str, QuantizedTensor],
        writer: Writer,
        context: int,
    ) -> None:
        """context: positions in the states.

        Raises InvalidInput if queries would grow within them, which no operator here does.
        """
        original = decoder.rope.original
        if decoder.query_growth and context > original:
            what = f"its queries grow in texts of more than {original} positions"
            remedy = f"build it for a context of at most {original}"
            raise InvalidInput(Problem("config.json", what, remedy))
        self._decoder = decoder
        self._weights = weights
        self._codes = codes
        self._writer = writer
        self._context = context
        self._emit = writer.emit
        self._shapes = decoder.tensors()
        self._matrices = {
            name: self._weight(name) for name, s in self._shapes.items() if len(s) == 2
        }

    def build(self, turned: Rotations) -> Any:
        """Logits of the tokens of `rows`, (1, rows, vocabulary): who generates needs the last ones
        of a prompt, whose others would cost as much as several layers."""
        decoder, emit = self._decoder, self._emit
        ids = self._writer.inputs[IDS]
        position = self._writer.inputs[POSITION]
        places = find_places(self._writer, decoder, self._context, ids, position, turned)
        table = self._matrices["model.embed_tokens.weight"]
        hidden = emit("gather", "model.embed_tokens", x=table, indices=ids, axis=0)
        hidden = self._scaled(hidden, "model.embed_scale", decoder.embedding_scale)
        for layer in range(decoder.layers):
            hidden = self._layer(layer, hidden, places)
        rows = self._writer.inputs[ROWS]
        hidden = emit("gather", "model.rows", x=hidden, indices=rows, axis=1)
        hidden = self._norm(hidden, "model.norm", decoder.hidden)
        output = table if decoder.tied else self._matrices["lm_head.weight"]
        logits = self._product(hidden, "lm_head", output)
        logits = self._scaled(logits, "lm_head.scale", decoder.logit_scale)
        return self._capped(logits, "lm_head.softcap", decoder.logit_softcap)

    def _layer(self, layer: int, hidden: Any, places: Places) -> Any:
        norms, stem = self._decoder.norms, f"model.layers.{layer}"
        inner = self._normed(hidden, stem, norms.before_attention)
        attended = self._attention(layer, inner, places)
        attended = self._normed(attended, stem, norms.after_attention)
        hidden = self._added(hidden, attended, f"{stem}.residual")
        inner = self._normed(hidden, stem, norms.before_feed_forward)
        fed = self._feed_forward(f"{stem}.mlp", inner)
        fed = self._normed(fed, stem, norms.after_feed_forward)
        return self._added(hidden, fed, f"{stem}.output")

    def _normed(self, hidden: Any, stem: str, name: str | None) -> Any:
        return (
            hidden if name is None else self._norm(hidden, f"{stem}.{name}", self._decoder.hidden)
        )

    def _added(self, hidden: Any, more: Any, name: str) -> Any:
        more = self._scaled(more, f"{name}.scale", self._decoder.residual_scale)
        return self._emit("add", name, x=hidden, y=more)

    def _scaled(self, value: Any, name: str, factor: float) -> Any:
        return value if factor == 1 else self._emit("mul", name, x=value, y=factor)

    def _attention(self, layer: int, hidden: Any, places: Places) -> Any:
        decoder, emit, stem = self._decoder, self._emit, f"model.layers.{layer}.self_attn"
        window = decoder.windows[layer]
        query, key, value = self._query_key_value(hidden, stem)
        if decoder.rotates[layer]:
            query = self._turned(query, f"{stem}.query_rope", places.turns[window])
            key = self._turned(key, f"{stem}.key_rope", places.turns[window])
        # Scaled before the product, so that scores stay small; the scale goes to the short side.
        query = emit("mul", f"{stem}.scaled", x=query, y=decoder.attention_scale)
        keys = self._kept(state_name(layer, "key"), key, places)
        values = self._kept(state_name(layer, "value"), value, places)
        group = decoder.heads // decoder.kv_heads
        shape = [1, decoder.kv_heads, group, -1, decoder.head_dim]
        query = emit("reshape", f"{stem}.grouped", x=query, shape=shape)
        keys = emit("expand_dims", f"{stem}.keys", x=keys, axes=[2])
        values = emit("expand_dims", f"{stem}.values", x=values, axes=[2])
        scores = emit("matmul", f"{stem}.scores", x=query, y=keys, transpose_y=True)
        scores = self._capped(scores, f"{stem}.softcap", decoder.attention_softcap)
        scores = emit("add", f"{stem}.masked", x=scores, y=places.masks[window])
        shares = emit("softmax", f"{stem}.softmax", x=scores, axis=-1)
        mixed = emit("matmul", f"{stem}.mixed", x=shares, y=values)
        shape = [1, decoder.heads, -1, decoder.head_dim]
        mixed = emit("reshape", f"{stem}.heads", x=mixed, shape=shape)
        mixed = emit("transpose", f"{stem}.by_token", x=mixed, perm=[0, 2, 1, 3])
        shape = [1, -1, decoder.heads * decoder.head_dim]
        mixed = emit("reshape", f"{stem}.joined", x=mixed, shape=shape)
        return self._linear(mixed, f"{stem}.o_proj", bias=decoder.output_bias)

    def _query_key_value(self, hidden: Any, stem: str) -> tuple[Any, Any, Any]:
        """Each (1, heads, tokens, head_dim)."""
        decoder, emit = self._decoder, self._emit
        counts = (decoder.heads, decoder.kv_heads, decoder.kv_heads)
        if decoder.fused_qkv:
            joined = self._linear(hidden, f"{stem}.qkv_proj", bias=decoder.qkv_bias)
            sizes = np.array([count * decoder.head_dim for count in counts], np.int32)
            parts = emit("split", f"{stem}.qkv", x=joined, split_sizes=sizes, axis=-1)
        else:
            parts = [
                self._linear(hidden, f"{stem}.{name}_proj", bias=decoder.qkv_bias) for name in "qkv"
            ]
        found = []
        for name, part, count in zip("qkv", parts, counts, strict=True):
            is_normed = decoder.qk_norm is not None and name != "v"
            if is_normed and decoder.qk_norm == "whole":
                part = self._norm(part, f"{stem}.{name}_norm", decoder.norm_width(count))
            shape = [1, -1, count, decoder.head_dim]
            split = emit("reshape", f"{stem}.{name}_heads", x=part, shape=shape)
            if is_normed and decoder.qk_norm == "head":
                split = self._norm(split, f"{stem}.{name}_norm", decoder.head_dim)
            moved = emit("transpose", f"{stem}.{name}_moved", x=split, perm=[0, 2, 1, 3])
            found.append(moved)
        return found[0], found[1], found[2]

    def _turned(self, value: Any, stem: str, turn: tuple[Any, Any]) -> Any:
        """Rotary positions: column i rotates with column i + rope_dim / 2; the rest stays.

        Interleaved columns are first put in that order, in queries and keys alike, and stay in it:
        no product of the two changes.
        """
        decoder, emit = self._decoder, self._emit
        if decoder.interleaved:
            value = self._by_halves(value, stem)
        half, rest = decoder.rope_dim // 2, decoder.head_dim - decoder.rope_dim
        sizes = np.array([half, half, *([rest] if rest else [])], np.int32)
        parts = emit("split", f"{stem}.parts", x=value, split_sizes=sizes, axis=-1)
        turning = value
        if rest:
            turning = emit("concat", f"{stem}.turning", values=[parts[0], parts[1]], axis=-1)
        # The minus sign of the first half is in the sines.
        other = emit("concat", f"{stem}.other", values=[parts[1], parts[0]], axis=-1)
        left = emit("mul", f"{stem}.cosine", x=turning, y=turn[0])
        right = emit("mul", f"{stem}.sine", x=other, y=turn[1])
        total = emit("add", stem, x=left, y=right)
        if rest:
            total = emit("concat", f"{stem}.whole", values=[total, parts[2]], axis=-1)
        return total

    def _by_halves(self, value: Any, stem: str) -> Any:
        columns = np.arange(self._decoder.head_dim, dtype=np.int32)
        pairs = columns[: self._decoder.rope_dim].reshape(-1, 2)
        order = np.concatenate([pairs.T.reshape(-1), columns[self._decoder.rope_dim :]])
        return self._emit("gather", f"{stem}.by_halves", x=value, indices=order, axis=-1)

    def _kept(self, state: str, value: Any, places: Places) -> Any:
        """Write `value` into the state at its tokens' places; returns the whole state."""
        emit, handle = self._emit, self._writer.inputs[state]
        before = emit("read_state", f"{state}_before", input=handle)
        whole = [True, True, False, True]
        written = self._writer.in_float16(
            "slice_update",
            f"{state}_written",
            x=before,
            update=value,
            begin=places.begin,
            end=places.end,
            begin_mask=whole,
            end_mask=whole,
        )
        return self._writer.in_float16(
            "coreml_update_state", f"{state}_after", state=handle, value=written
        )

    def _feed_forward(self, stem: str, hidden: Any) -> Any:
        emit = self._emit
        if self._decoder.fused_gate_up:
            both = self._linear(hidden, f"{stem}.gate_up_proj", bias=False)
            gate, up = emit("split", f"{stem}.gate_up", x=both, num_splits=2, axis=-1)
        else:
            gate = self._linear(hidden, f"{stem}.gate_proj", bias=False)
            up = self._linear(hidden, f"{stem}.up_proj", bias=False)
        if self._decoder.activation == "silu":
            gate = emit("silu", f"{stem}.act_fn", x=gate)
        else:
            gate = emit("gelu", f"{stem}.act_fn", x=gate, mode="TANH_APPROXIMATION")
        gated = emit("mul", f"{stem}.gated", x=gate, y=up)
        return self._linear(gated, f"{stem}.down_proj", bias=False)

    def _linear(self, hidden: Any, stem: str, *, bias: bool) -> Any:
        shift = self._weights.read(f"{stem}.bias") if bias else None
        return self._product(hidden, stem, self._matrices[f"{stem}.weight"], shift)

    def _product(
        self, hidden: Any, name: str, weight: Weight, bias: np.ndarray | None = None
    ) -> Any:
        return self._writer.linear(name, hidden, weight, bias)

    def _norm(self, hidden: Any, stem: str, width: int) -> Any:
        """x / √(mean x² + ε) × gain.

        In float16 the squares of many models' activations overflow. Divided by its largest value
        first, x is between -1 and 1 and the result is the same.
        """
        emit = self._emit
        gain = self._weights.read(f"{stem}.weight") + np.float32(self._decoder.norm_plus_one)
        epsilon: Any = self._decoder.norm_eps
        if self._writer.precision(stem) == "fp16":
            size = emit("abs", f"{stem}.size", x=hidden)
            most = emit("reduce_max", f"{stem}.most", x=size, axes=[-1], keep_dims=True)
            root = float(np.sqrt(epsilon))
            most = emit("maximum", f"{stem}.least", x=most, y=root)
            hidden = emit("real_div", f"{stem}.within_one", x=hidden, y=most)
            part = emit("real_div", f"{stem}.root_epsilon", x=root, y=most)
            epsilon = emit("mul", f"{stem}.epsilon", x=part, y=part)
        squares = emit("mul", f"{stem}.squares", x=hidden, y=hidden)
        mean = emit("reduce_mean", f"{stem}.mean", x=squares, axes=[-1], keep_dims=True)
        mean = emit("add", f"{stem}.above_zero", x=mean, y=epsilon)
        factor = emit("rsqrt", f"{stem}.factor", x=mean, epsilon=0.0)
        normed = emit("mul", f"{stem}.normed", x=hidden, y=factor)
        weight = Weight(f"{stem}.weight", (width,), lambda: gain)
        return emit("mul", stem, x=normed, y=weight)

    def _capped(self, value: Any, name: str, cap: float | None) -> Any:
        if cap is None:
            return value
        inside = self._emit("mul", f"{name}.inside", x=value, y=1 / cap)
        bent = self._emit("tanh", f"{name}.tanh", x=inside)
        return self._emit("mul", name, x=bent, y=cap)

    def _weight(self, name: str) -> Weight:
        read = self._weights.read
        return Weight(name, self._shapes[name], lambda: read(name), self._codes.get(name))
