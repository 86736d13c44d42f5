"""Granite 3 and the dense models of Granite 4: a llama with factors at four places."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import ELSEWHERE, read_llama
from edgeq.models.settings import Settings

# Settings of parts that a dense model does not have.
_UNUSED = (
    *("mamba_chunk_size", "mamba_conv_bias", "mamba_d_conv", "mamba_d_head", "mamba_d_state"),
    *("mamba_expand", "mamba_n_groups", "mamba_n_heads", "mamba_proj_bias", "num_experts_per_tok"),
    *("output_router_logits", "router_aux_loss_coef", "intermediate_size", "init_method"),
)


def _read(family: Family, config: Settings) -> Decoder:
    bias = config.flag("attention_bias")
    return replace(
        read_llama(family, config),
        embedding_scale=config.number("embedding_multiplier", 1.0),
        attention_scale=config.number("attention_multiplier", 1.0),
        residual_scale=config.number("residual_multiplier", 1.0),
        logit_scale=1 / config.number("logits_scaling", 1.0),
        qkv_bias=bias,
        output_bias=bias,
    )


def _read_dense(family: Family, config: Settings) -> Decoder:
    """Granite 4 shares one class; layers of state and experts have operators that edgeq lacks."""
    config.ignore(_UNUSED)
    decoder = _read(family, config)
    layers = config.get("layer_types", config.get("layers_block_type"))
    if layers != ["attention"] * decoder.layers:
        if isinstance(layers, list) and "mamba" in layers:
            what = "config.json: there is no operator for layer_types of 'mamba'"
            raise config.error(what, f"use a model of attention alone, or: {ELSEWHERE}")
        raise config.unusable("layer_types", layers, "attention in every layer")
    for key, wanted in (
        ("num_local_experts", 0),
        ("position_embedding_type", "rope"),
        ("normalization_function", "rmsnorm"),
    ):
        found = config.get(key, wanted)
        if found != wanted:
            raise config.unusable(key, found, repr(wanted))
    return replace(decoder, feed_forward=config.whole("shared_intermediate_size"))


GRANITE = Family(
    "granite",
    _read,
    LlamaCpp("granite", neighbours=True, attention_bias=True, factors=True),
)
GRANITE4 = Family(
    "granitemoehybrid",
    _read_dense,
    GRANITE.llama_cpp,
    required=("num_key_value_heads", "num_local_experts", "position_embedding_type"),
    stacked={
        "shared_mlp.input_linear.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        "shared_mlp.output_linear.weight": ("mlp.down_proj.weight",),
    },
)
