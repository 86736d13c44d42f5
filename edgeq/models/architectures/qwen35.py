"""Qwen 3.5 and 3.6: three layers in four have the gated delta rule, others attention with a gate.

The larger ones have experts, and one more that every token passes through.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.core.errors import InvalidInput
from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.delta import Delta
from edgeq.models.architectures.experts import Experts
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import (
    LINEAR,
    WHOLE,
    head_width,
    layer_types,
    read_llama,
    taps_of,
)
from edgeq.models.known_keys import Fixed
from edgeq.models.rope import read_rope
from edgeq.models.settings import Settings

# Of images, whose positions have three numbers; for a text these are equal.
_OF_IMAGES = ("mrope_section", "mrope_interleaved")
# Of further layers, which predict later tokens and are not run.
_FURTHER = ("mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")
_FIXED: Fixed = {
    "attn_output_gate": (True,),
    "mlp_only_layers": ([],),
    "norm_topk_prob": (True,),
    "output_gate_type": ("swish", "silu"),  # of the delta rule's output
}


def _read(family: Family, config: Settings, feed_forward: str = "intermediate_size") -> Decoder:
    config.ignore((*_FURTHER, "mamba_ssm_dtype"))
    problems = list(config.unsupported(_FIXED))
    if problems:
        raise InvalidInput(problems)
    context, bias = config.whole("max_position_embeddings"), config.flag("attention_bias")
    usual = {"partial_rotary_factor": 0.25}
    rope = read_rope(config, head_width(config), context, usual, others=_OF_IMAGES)
    decoder = read_llama(family, config, rope=rope, feed_forward=feed_forward)
    kinds = _layer_types(config, decoder.layers)
    return replace(
        decoder,
        norm_plus_one=True,
        qk_norm="head",
        output_gate=True,
        qkv_bias=bias,
        output_bias=bias,
        delta=_delta(config, kinds),
    )


def _read_experts(family: Family, config: Settings) -> Decoder:
    config.ignore(["output_router_logits", "router_aux_loss_coef"])  # for training
    config.ignore(["intermediate_size"])  # of layers without experts, which it does not have
    decoder = _read(family, config, "moe_intermediate_size")
    count = config.whole("num_experts")
    experts = Experts(
        count=count,
        used=config.whole("num_experts_per_tok", largest=count),
        width=decoder.feed_forward,
        normalized=True,
        layers=frozenset(range(decoder.layers)),
        shared=config.whole("shared_expert_intermediate_size"),
    )
    return replace(decoder, experts=experts)


def _layer_types(config: Settings, layers: int) -> list[str]:
    every = config.whole("full_attention_interval", 4)
    usual = [LINEAR if (layer + 1) % every else WHOLE for layer in range(layers)]
    return layer_types(config, usual, LINEAR, "full_attention_interval")


def _delta(config: Settings, kinds: list[str]) -> Delta:
    keys, values = (config.whole(f"linear_num_{kind}_heads") for kind in ("key", "value"))
    if values % keys:
        what = f"config.json: {values} heads of values cannot share {keys} of keys"
        raise config.error(what, "download or save the model again")
    return Delta(
        taps=taps_of(config, "linear_conv_kernel_dim"),
        key_heads=keys,
        value_heads=values,
        key_width=config.whole("linear_key_head_dim"),
        value_width=config.whole("linear_value_head_dim"),
        layers=frozenset(layer for layer, kind in enumerate(kinds) if kind == LINEAR),
    )


_STACKED = {
    "linear_attn.A_log": ("linear_attn.A_log.weight",),
    "linear_attn.dt_bias": ("linear_attn.dt.bias",),
}
QWEN35 = Family(
    "qwen3_5_text",
    _read,
    LlamaCpp("qwen35", part_of_head=True, feed_forward_norm="post_attention_norm"),
    required=("num_key_value_heads", "head_dim", "tie_word_embeddings"),
    stacked=_STACKED,
)
QWEN35_MOE = Family(
    "qwen3_5_moe_text",
    _read_experts,
    replace(QWEN35.llama_cpp, architecture="qwen35moe"),
    required=(*QWEN35.required, "num_experts", "num_experts_per_tok"),
    stacked=_STACKED,
    joined_experts={
        "mlp.experts.gate_up_proj": ("gate_proj.weight", "up_proj.weight"),
        "mlp.experts.down_proj": ("down_proj.weight",),
    },
    experts_by_rows=True,
)
