"""Sizes of language models that edgeq does not build yet but is asked about: mixtures of experts,
and hybrids whose layers mostly keep a state in place of a cache.

Read from `config.json` by the names transformers gives its settings (Mixtral, Qwen3-MoE, OLMoE,
Qwen3-Next).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STATE_BYTES = 4  # bytes of a value in a recurrent state, which is kept in float32


def hybrid_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `edgeq.estimate.sizes.Sizes`. Raises KeyError for missing settings."""
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or hidden // heads)
    query, key = heads * head, int(config.get("num_key_value_heads") or heads) * head
    tied = bool(config.get("tie_word_embeddings", False))
    linear = _linear_layers(config, layers)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (int(config["vocab_size"]), hidden),
        "model.norm.weight": (hidden,),
    }
    active: dict[str, float] = {}
    if not tied:
        shapes["lm_head.weight"] = (int(config["vocab_size"]), hidden)
    gated = "linear_num_value_heads" in config  # Qwen3-Next's full attention has an output gate
    for layer in range(layers):
        start = f"model.layers.{layer}."
        own = (
            _linear_attention(config, hidden)
            if layer in linear
            else _attention(hidden, query, key, gated=gated)
        )
        wide, shares = _feed_forward(config, layer, hidden)
        shapes.update({start + name: shape for name, shape in {**own, **wide}.items()})
        active.update({start + name: share for name, share in shares.items()})
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    return {
        "shapes": shapes,
        "hidden": hidden,
        "wide": _active_width(config),
        "heads": heads,
        "query": query,
        "key": key,
        "windows": (int(window) if window else None,) * (layers - len(linear)),
        "tied": tied,
        "longest": int(config["max_position_embeddings"]),
        "state": len(linear) * _state_bytes(config),
        "active": active,
    }


def _experts(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """The number of experts, how many a token uses, and the width of each; zeros without any."""
    for name in ("num_experts", "num_local_experts", "n_routed_experts"):
        if config.get(name):
            wide = config.get("moe_intermediate_size") or config["intermediate_size"]
            return int(config[name]), int(config["num_experts_per_tok"]), int(wide)
    return 0, 0, 0


def _active_width(config: Mapping[str, Any]) -> int:
    count, used, wide = _experts(config)
    if not count:
        return int(config["intermediate_size"])
    return used * wide + int(config.get("shared_expert_intermediate_size") or 0)


def _linear_layers(config: Mapping[str, Any], layers: int) -> set[int]:
    """Layers with linear attention."""
    kinds = config.get("layer_types")
    if kinds:
        return {layer for layer, kind in enumerate(kinds) if kind == "linear_attention"}
    if "linear_num_value_heads" not in config:
        return set()
    every = int(config.get("full_attention_interval", 4))
    return {layer for layer in range(layers) if (layer + 1) % every}


def _attention(hidden: int, query: int, key: int, *, gated: bool) -> dict[str, tuple[int, ...]]:
    return {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (query * (2 if gated else 1), hidden),
        "self_attn.k_proj.weight": (key, hidden),
        "self_attn.v_proj.weight": (key, hidden),
        "self_attn.o_proj.weight": (hidden, query),
    }


def _linear_widths(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Width of the keys, width of the values, number of value heads."""
    values = int(config["linear_num_value_heads"])
    return (
        int(config["linear_num_key_heads"]) * int(config["linear_key_head_dim"]),
        values * int(config["linear_value_head_dim"]),
        values,
    )


def _linear_attention(config: Mapping[str, Any], hidden: int) -> dict[str, tuple[int, ...]]:
    keys, values, heads = _linear_widths(config)
    return {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "linear_attn.in_proj_qkvz.weight": (2 * keys + 2 * values, hidden),
        "linear_attn.in_proj_ba.weight": (2 * heads, hidden),
        "linear_attn.conv1d.weight": (
            2 * keys + values,
            int(config.get("linear_conv_kernel_dim", 4)),
        ),
        "linear_attn.out_proj.weight": (hidden, values),
    }


def _state_bytes(config: Mapping[str, Any]) -> int:
    """One layer's state: a matrix of key × value for every head, and the convolution's state."""
    if "linear_num_value_heads" not in config:
        return 0
    keys, values, _ = _linear_widths(config)
    kept = (2 * keys + values) * int(config.get("linear_conv_kernel_dim", 4))
    return _STATE_BYTES * (values * int(config["linear_key_head_dim"]) + kept)


def _feed_forward(
    config: Mapping[str, Any], layer: int, hidden: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, float]]:
    """Shapes, and the fraction of each that one token reads if not all."""
    count, used, wide = _experts(config)
    step = int(config.get("decoder_sparse_step") or 1)
    dense = layer in (config.get("mlp_only_layers") or ()) or (layer + 1) % step
    dense = dense or layer < int(config.get("first_k_dense_replace") or 0)
    if not count or dense:
        return _gated("mlp.", hidden, int(config["intermediate_size"])), {}
    experts = {
        f"mlp.experts.{name}": (count, *shape) for name, shape in _gated("", hidden, wide).items()
    }
    shapes = {"mlp.gate.weight": (count, hidden), **experts}
    shared = int(config.get("shared_expert_intermediate_size") or 0)
    shared = shared or wide * int(config.get("n_shared_experts") or 0)
    if shared:
        shapes |= _gated("mlp.shared_expert.", hidden, shared)
    return shapes, dict.fromkeys(experts, used / count)


def _gated(start: str, hidden: int, wide: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{start}gate_proj.weight": (wide, hidden),
        f"{start}up_proj.weight": (wide, hidden),
        f"{start}down_proj.weight": (hidden, wide),
    }
