"""LFM2: most layers have a short convolution, the others attention with norms of each head.

The larger ones have experts in all layers but the first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeq.models.architectures.convolution import Convolution
from edgeq.models.architectures.decoder import Decoder, Norms
from edgeq.models.architectures.experts import PREFERENCE, ROUTER, Experts
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import (
    WHOLE,
    head_width,
    layer_types,
    read_llama,
    taps_of,
)
from edgeq.models.rope import read_rope
from edgeq.models.settings import Settings

_CONVOLUTION = "conv"
# Keys of the first files, which say again what others say, and how the training began.
_REPEATED = {
    **dict.fromkeys(("block_dim", "conv_dim", "conv_dim_out"), "hidden_size"),
    **{"num_heads": "num_attention_heads", "block_norm_eps": "norm_eps"},
}
_CONSTANT = ("block_use_swiglu", "use_pos_enc")
_TRAINING = (
    *("block_mlp_init_scale", "block_out_init_scale", "block_use_xavier_init"),
    "conv_use_xavier_init",
)


def _read_dense(family: Family, config: Settings) -> Decoder:
    config.ignore(_TRAINING)
    for key, other in _REPEATED.items():
        if config.get(key, config.get(other)) != config.get(other):
            raise config.unusable(key, config.get(key), f"{other}, {config.get(other)}")
    for key in _CONSTANT:
        if not config.flag(key, True):
            raise config.unusable(key, False, "true")
    width = "intermediate_size" if config.get("block_ff_dim") is None else "block_ff_dim"
    _either(config, "block_ff_dim", "intermediate_size")
    decoder = _read(family, config, width)
    return replace(decoder, feed_forward=_feed_forward(config, decoder.feed_forward))


def _read_experts(family: Family, config: Settings) -> Decoder:
    config.ignore(["output_router_logits", "router_aux_loss_coef"])  # for training
    decoder = _read(family, config, "intermediate_size")
    count = config.whole("num_experts")
    dense = config.get("num_dense_layers", 2)
    if dense not in range(decoder.layers):
        raise config.unusable("num_dense_layers", dense, f"a number below {decoder.layers}")
    experts = Experts(
        count=count,
        used=config.whole("num_experts_per_tok", largest=count),
        width=config.whole("moe_intermediate_size"),
        normalized=config.flag("norm_topk_prob", True),
        layers=frozenset(range(dense, decoder.layers)),
        sigmoid=True,
        preference=config.flag("use_expert_bias", True),
        scale=config.number("routed_scaling_factor", 1.0),
    )
    return replace(decoder, experts=experts)


def _read(family: Family, config: Settings, feed_forward: str) -> Decoder:
    theta = _either(config, "theta", "rope_theta")
    context = config.whole("max_position_embeddings")
    usual = 1e6 if theta is None else theta
    rope = read_rope(config, head_width(config), context, theta=usual)
    decoder = read_llama(
        family,
        config,
        rope=rope,
        activation=None,
        norm_eps="norm_eps",
        feed_forward=feed_forward,
    )
    tied = _either(config, "tie_embedding", "tie_word_embeddings")
    kinds = _layer_types(config, decoder.layers)
    return replace(
        decoder,
        tied=True if tied is None else tied,
        qk_norm="head",
        convolution=Convolution(
            taps=taps_of(config, "conv_L_cache", 3),
            bias=config.flag("conv_bias"),
            layers=frozenset(n for n, kind in enumerate(kinds) if kind == _CONVOLUTION),
        ),
    )


def _either(config: Settings, first: str, usual: str) -> Any:
    """The value of a key that the first files name otherwise; None without both."""
    values = [config.get(key) for key in (first, usual) if key in config]
    if len(values) == 2 and values[0] != values[1]:
        what = f"config.json: {first} {values[0]!r} and {usual} {values[1]!r} contradict each other"
        raise config.error(what, "delete the one that the model was not trained with")
    return values[0] if values else None


def _layer_types(config: Settings, layers: int) -> list[str]:
    attends = config.get("full_attn_idxs", list(range(layers)))
    if not isinstance(attends, list) or not set(map(str, attends)) <= set(map(str, range(layers))):
        raise config.unusable("full_attn_idxs", attends, f"a list of layers below {layers}")
    usual = [WHOLE if layer in attends else _CONVOLUTION for layer in range(layers)]
    return layer_types(config, usual, _CONVOLUTION, "full_attn_idxs")


def _feed_forward(config: Settings, stated: int) -> int:
    """Two thirds of what the file says, times a factor, rounded up to a multiple."""
    factor = config.number("block_ffn_dim_multiplier", 1.0)
    multiple = config.whole("block_multiple_of", 256)
    if not config.flag("block_auto_adjust_ff_dim", True):
        return stated
    wide = int(factor * int(2 * stated / 3))
    return -(-wide // multiple) * multiple


_STACKED = {
    "embedding_norm.weight": ("norm.weight",),
    "self_attn.out_proj.weight": ("self_attn.o_proj.weight",),
    "self_attn.q_layernorm.weight": ("self_attn.q_norm.weight",),
    "self_attn.k_layernorm.weight": ("self_attn.k_norm.weight",),
    "feed_forward.w1.weight": ("mlp.gate_proj.weight",),
    "feed_forward.w2.weight": ("mlp.down_proj.weight",),
    "feed_forward.w3.weight": ("mlp.up_proj.weight",),
}
LFM2 = Family(
    "lfm2",
    _read_dense,
    LlamaCpp("lfm2", output_norm="token_embd_norm"),
    norms=Norms("operator_norm", None, "ffn_norm", None),
    stacked=_STACKED,
)
LFM2_MOE = Family(
    "lfm2_moe",
    _read_experts,
    LlamaCpp("lfm2moe", output_norm="token_embd_norm", dense_first=True),
    norms=LFM2.norms,
    required=("num_key_value_heads", "num_experts_per_tok", "layer_types"),
    stacked={
        **_STACKED,
        "feed_forward.gate.weight": (ROUTER,),
        "feed_forward.expert_bias": (PREFERENCE,),
        "feed_forward.experts.w1.weight": ("mlp.experts.gate_proj.weight",),
        "feed_forward.experts.w2.weight": ("mlp.experts.down_proj.weight",),
        "feed_forward.experts.w3.weight": ("mlp.experts.up_proj.weight",),
    },
)
