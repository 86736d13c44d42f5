"""GLM 4: norms on both sides, joined gate and up, and half of each head rotates, in pairs."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder, Norms
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import head_width, read_llama
from edgeq.models.rope import read_rope
from edgeq.models.settings import Settings


def _read(family: Family, config: Settings) -> Decoder:
    context = config.whole("max_position_embeddings")
    rope = read_rope(config, head_width(config), context, {"partial_rotary_factor": 0.5})
    decoder = read_llama(family, config, rope=rope)
    return replace(decoder, interleaved=True, qkv_bias=config.flag("attention_bias"))


GLM4 = Family(
    "glm4",
    _read,
    LlamaCpp("glm4", neighbours=True, attention_bias=True, part_of_head=True),
    required=("num_key_value_heads", "head_dim", "attention_bias"),
    norms=Norms(
        "input_layernorm",
        "post_self_attn_layernorm",
        "post_attention_layernorm",
        "post_mlp_layernorm",
    ),
    fused_gate_up=True,
)
