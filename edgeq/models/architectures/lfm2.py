"""LFM2: most layers have a short convolution, the others attention with norms of each head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeq.models.architectures.convolution import Convolution
from edgeq.models.architectures.decoder import Decoder, Norms
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


def _read(family: Family, config: Settings) -> Decoder:
    config.ignore(_TRAINING)
    for key, other in _REPEATED.items():
        if config.get(key, config.get(other)) != config.get(other):
            raise config.unusable(key, config.get(key), f"{other}, {config.get(other)}")
    for key in _CONSTANT:
        if not config.flag(key, True):
            raise config.unusable(key, False, "true")
    theta = _either(config, "theta", "rope_theta")
    context = config.whole("max_position_embeddings")
    usual = 1e6 if theta is None else theta
    rope = read_rope(config, head_width(config), context, theta=usual)
    width = "intermediate_size" if config.get("block_ff_dim") is None else "block_ff_dim"
    _either(config, "block_ff_dim", "intermediate_size")
    decoder = read_llama(
        family, config, rope=rope, activation=None, norm_eps="norm_eps", feed_forward=width
    )
    tied = _either(config, "tie_embedding", "tie_word_embeddings")
    kinds = _layer_types(config, decoder.layers)
    return replace(
        decoder,
        feed_forward=_feed_forward(config, decoder.feed_forward),
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


LFM2 = Family(
    "lfm2",
    _read,
    LlamaCpp("lfm2", output_norm="token_embd_norm"),
    norms=Norms("operator_norm", None, "ffn_norm", None),
    stacked={
        "embedding_norm.weight": ("norm.weight",),
        "self_attn.out_proj.weight": ("self_attn.o_proj.weight",),
        "self_attn.q_layernorm.weight": ("self_attn.q_norm.weight",),
        "self_attn.k_layernorm.weight": ("self_attn.k_norm.weight",),
        "feed_forward.w1.weight": ("mlp.gate_proj.weight",),
        "feed_forward.w2.weight": ("mlp.down_proj.weight",),
        "feed_forward.w3.weight": ("mlp.up_proj.weight",),
    },
)
