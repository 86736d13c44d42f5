"""A language model's architecture: everything that exporters need to compute its logits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeq.models.architectures.altup import AltUp
from edgeq.models.architectures.convolution import Convolution
from edgeq.models.architectures.delta import Delta
from edgeq.models.architectures.experts import Experts
from edgeq.models.architectures.heads import Heads
from edgeq.models.architectures.per_layer import PerLayer
from edgeq.models.rope import Rope

DEFAULT_CONTEXT = 4096
"""Default context length, or the trained length if shorter: llama.cpp allocates
the whole KV cache at once, and models are trained for up to a million positions."""


@dataclass(frozen=True)
class Norms:
    """The norms of a layer by their names; None where a family has none.

    before_…: of the input of attention or feed-forward. after_…: of its output, before it is added.
    """

    before_attention: str | None
    after_attention: str | None
    before_feed_forward: str | None
    after_feed_forward: str | None

    def __iter__(self) -> Iterator[str]:
        names = (
            self.before_attention,
            self.after_attention,
            self.before_feed_forward,
            self.after_feed_forward,
        )
        return (name for name in names if name is not None)


BEFORE = Norms("input_layernorm", None, "post_attention_layernorm", None)
AFTER = Norms(None, "post_attention_layernorm", None, "post_feedforward_layernorm")
AROUND = Norms(
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


@dataclass(frozen=True)
class Decoder:
    """A decoder-only transformer with rotary positions and a gated feed-forward layer.

    family: `model_type` in config.json. heads, kv_heads: of queries, and of keys and values;
    head_dim: width of each. context: trained length. rope: rotation of queries and keys by
    position; local_rope: in windowed layers if it differs. rotates: for each layer whether it has
    positions at all. interleaved: column 2i rotates with column 2i + 1, not column i with column i
    + half. windows: for each layer the number of positions it attends to, including its own, None
    for all. attention_scale: factor of query·key. query_growth: a query at position p is multiplied
    by 1 + query_growth·log(1 + ⌊p / rope.original⌋). embedding_scale, residual_scale, logit_scale:
    factors of token vectors, of what a layer's parts add, and of logits. *_softcap: c in
    c·tanh(x/c), None without. norms: of a layer. norm_plus_one: they multiply by 1 + weight.
    sinks: a number for each head that is in the softmax of its scores and attends to nothing.
    qk_norm: norm of queries and keys, over each head's columns or over all of them. fused_qkv: q,
    k, v are one tensor; fused_gate_up: gate and up are. experts, convolution, delta: None without
    any. output_gate: q_proj has a gate behind each head's query, which attention's output is
    multiplied with. value_norm: values are normed too, without a weight. borrowed: of layers that
    attend to the keys and values of an earlier one, that one; unread_keys: they have weights of
    keys all the same. whole_heads: in layers without a window, None if all are alike. per_layer,
    altup: None without. layer_scale: a layer's output is multiplied by a number. feed_forward:
    width of the widest layer; feed_forwards: of every one, empty if all are alike.
    """

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    context: int
    norm_eps: float
    activation: Literal["silu", "gelu_tanh"]
    tied: bool
    rope: Rope
    local_rope: Rope | None
    rotates: tuple[bool, ...]
    interleaved: bool
    windows: tuple[int | None, ...]
    attention_scale: float
    query_growth: float
    attention_softcap: float | None
    embedding_scale: float
    residual_scale: float
    logit_scale: float
    logit_softcap: float | None
    norms: Norms
    norm_plus_one: bool
    qk_norm: Literal["head", "whole"] | None
    qkv_bias: bool
    output_bias: bool
    fused_qkv: bool
    fused_gate_up: bool
    experts: Experts | None = None
    convolution: Convolution | None = None
    delta: Delta | None = None
    output_gate: bool = False
    sinks: bool = False
    feed_forwards: tuple[int, ...] = ()
    value_norm: bool = False
    whole_heads: Heads | None = None
    layer_scale: bool = False
    unread_keys: bool = False
    borrowed: Mapping[int, int] = field(default_factory=dict)
    per_layer: PerLayer | None = None
    altup: AltUp | None = None

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every weight, by its Hugging Face name, with its shape (outputs or tokens first)."""
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden)
        }
        if self.per_layer:
            shapes.update(self.per_layer.tensors(self.layers, self.hidden, self.vocabulary))
        if self.altup:
            shapes.update(self.altup.tensors(self.hidden))
        for layer in range(self.layers):
            own = self._layer_tensors(layer)
            shapes.update({f"model.layers.{layer}.{name}": own[name] for name in own})
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocabulary, self.hidden)
        return shapes

    @property
    def unknown(self) -> str:
        """Why edgeq does not know what the model computes, only its sizes; empty if it does."""
        return ""

    @property
    def rope_dim(self) -> int:
        """Columns of a head that rotate with the position."""
        return self.rope.dim

    def norm_width(self, heads: int) -> int:
        """Columns that a norm of queries or keys covers."""
        return self.head_dim * (heads if self.qk_norm == "whole" else 1)

    def kv_heads_of(self, layer: int) -> int:
        """Heads of keys and values in a layer with attention."""
        return heads.kv_heads if (heads := self._own_heads(layer)) else self.kv_heads

    def head_dim_of(self, layer: int) -> int:
        """Width of a head in a layer with attention."""
        return heads.head_dim if (heads := self._own_heads(layer)) else self.head_dim

    def multiplies_once(self, layer: int) -> bool:
        """Whether values are the product that keys are made of."""
        heads = self._own_heads(layer)
        return heads is not None and heads.one_product

    def _own_heads(self, layer: int) -> Heads | None:
        return self.whole_heads if self.windows[layer] is None else None

    def cache_bytes_per_token(self, bytes_per_value: float) -> float:
        """Keys and values of one position in every layer with attention, ignoring windows."""
        return 2 * sum(self.cached_widths) * bytes_per_value

    def cache_bytes(self, context: int, bytes_per_value: float) -> float:
        """Keys and values of `context` positions; windowed layers keep no more than their window.

        For a runtime that allocates whole windows; one that keeps every position of every layer
        stores `context × cache_bytes_per_token`.
        """
        layers = zip(self.cached_windows, self.cached_widths, strict=True)
        values = sum(min(context, window or context) * width for window, width in layers)
        return 2 * values * bytes_per_value

    @property
    def cached_windows(self) -> tuple[int | None, ...]:
        """The windows of the layers that have a cache: with attention, to keys of their own."""
        return tuple(self.windows[layer] for layer in self._with_cache())

    @property
    def cached_widths(self) -> tuple[int, ...]:
        """Values of one position's keys in these layers."""
        return tuple(self.kv_heads_of(n) * self.head_dim_of(n) for n in self._with_cache())

    def _with_cache(self) -> list[int]:
        return [n for n in range(self.layers) if self.attends(n) and n not in self.borrowed]

    @property
    def state_bytes(self) -> int:
        """What the other layers carry on instead, whatever the length, in float32."""
        shapes = [s for n in range(self.layers) for s in (self.carried(n) or {}).values()]
        return 4 * sum(map(math.prod, shapes))

    def attends(self, layer: int) -> bool:
        """Whether a layer has attention, to keys and values of its own or of an earlier one."""
        return self.carried(layer) is None

    def carried(self, layer: int) -> dict[str, list[int]] | None:
        """What a layer carries on instead of keys and values, as shapes; None if it has those."""
        other = self._other_than_attention(layer)
        return other.carried(self.hidden) if other else None

    def _other_than_attention(self, layer: int) -> Convolution | Delta | None:
        both = (self.convolution, self.delta)
        return next((other for other in both if other and layer in other.layers), None)

    def _layer_tensors(self, layer: int) -> dict[str, tuple[int, ...]]:
        norms: dict[str, tuple[int, ...]] = {
            f"{name}.weight": (self.hidden,) for name in self.norms
        }
        other = self._other_than_attention(layer)
        mixing = other.tensors(self.hidden) if other else self._attention_tensors(layer)
        shapes = {**norms, **mixing, **self._fed_tensors(layer)}
        for part in (self.per_layer, self.altup):
            shapes |= part.layer_tensors(self.hidden) if part else {}
        if self.layer_scale:
            shapes["layer_scale.weight"] = (1,)
        return shapes

    def _attention_tensors(self, layer: int) -> dict[str, tuple[int, ...]]:
        width, kv_heads = self.head_dim_of(layer), self.kv_heads_of(layer)
        query, key = self.heads * width, kv_heads * width
        has_keys = self.unread_keys or layer not in self.borrowed
        rows = {"q_proj": query * (2 if self.output_gate else 1)}
        if has_keys:
            rows |= {"k_proj": key} | ({} if self.multiplies_once(layer) else {"v_proj": key})
        if self.fused_qkv:
            rows = {"qkv_proj": query + 2 * key}
        shapes: dict[str, tuple[int, ...]] = {}
        norms = {"q_norm": (self.heads, query), **({"k_norm": (kv_heads, key)} if has_keys else {})}
        for name, (count, whole) in norms.items() if self.qk_norm else ():
            columns = whole if self.qk_norm == "whole" else whole // count
            shapes[f"self_attn.{name}.weight"] = (columns,)
        if self.sinks:
            shapes["self_attn.sinks.weight"] = (self.heads,)
        for name, count in rows.items():
            shapes[f"self_attn.{name}.weight"] = (count, self.hidden)
            if self.qkv_bias:
                shapes[f"self_attn.{name}.bias"] = (count,)
        shapes["self_attn.o_proj.weight"] = (self.hidden, query)
        if self.output_bias:
            shapes["self_attn.o_proj.bias"] = (self.hidden,)
        return shapes

    def experts_of(self, layer: int) -> Experts | None:
        """The experts of a layer; None if it has a feed-forward layer."""
        return self.experts if self.experts and layer in self.experts.layers else None

    def _fed_tensors(self, layer: int) -> dict[str, tuple[int, ...]]:
        experts = self.experts_of(layer)
        if experts is not None:
            return experts.tensors(self.hidden)
        hidden = self.hidden
        wide = self.feed_forwards[layer] if self.feed_forwards else self.feed_forward
        rows = (
            {"gate_up_proj": 2 * wide}
            if self.fused_gate_up
            else {"gate_proj": wide, "up_proj": wide}
        )
        shapes: dict[str, tuple[int, ...]] = {
            f"mlp.{name}.weight": (count, hidden) for name, count in rows.items()
        }
        shapes["mlp.down_proj.weight"] = (hidden, wide)
        return shapes
