"""gpt-oss: experts with biases and a clamped gate, attention with sinks, alternating windows."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.experts import Experts
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import (
    WHOLE,
    WINDOWED,
    layer_types,
    read_llama,
    refuse_bias,
    windows_of,
)
from edgeq.models.settings import Settings

_LIMIT = 7.0
# transformers 4 and llama.cpp know no others.
_GATE = {"swiglu_limit": _LIMIT, "swiglu_alpha": 1.702}


def _read(family: Family, config: Settings) -> Decoder:
    refuse_bias(config, own=True)
    config.ignore(["output_router_logits", "router_aux_loss_coef"])  # for training
    if "rope_parameters" not in config:
        config.need("rope_scaling")  # transformers would stretch positions 32 times
    decoder = read_llama(family, config)
    count = config.whole("num_local_experts")
    used = config.whole("num_experts_per_tok", largest=count)
    repeated = {"experts_per_token": used, "initial_context_length": decoder.rope.original}
    for key, value in {**_GATE, **repeated}.items():
        if config.get(key, value) != value:
            raise config.unusable(key, config.get(key), str(value))
    usual = [WHOLE if layer % 2 else WINDOWED for layer in range(decoder.layers)]
    return replace(
        decoder,
        windows=windows_of(layer_types(config, usual), config.whole("sliding_window")),
        sinks=True,
        qkv_bias=True,
        output_bias=True,
        experts=Experts(
            count=count,
            used=used,
            width=decoder.feed_forward,
            normalized=True,
            layers=frozenset(range(decoder.layers)),
            bias=True,
            limit=_LIMIT,
        ),
    )


GPT_OSS = Family(
    "gpt_oss",
    _read,
    LlamaCpp(
        "gpt-oss",
        attention_bias=True,
        period=2,
        feed_forward_norm="post_attention_norm",
    ),
    required=("num_key_value_heads", "head_dim", "num_experts_per_tok"),
    stacked={
        "self_attn.sinks": ("self_attn.sinks.weight",),
        "mlp.router.weight": ("mlp.gate.weight",),
        "mlp.router.bias": ("mlp.gate.bias",),
    },
    joined_experts={
        "mlp.experts.gate_up_proj": ("gate_proj.weight", "up_proj.weight"),
        "mlp.experts.gate_up_proj_bias": ("gate_proj.bias", "up_proj.bias"),
        "mlp.experts.down_proj": ("down_proj.weight",),
        "mlp.experts.down_proj_bias": ("down_proj.bias",),
    },
)
