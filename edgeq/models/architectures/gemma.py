"""Gemma 2 and 3: norms on both sides that multiply by one more than their weight, and windows."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import AROUND, Decoder
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import (
    WHOLE,
    WINDOWED,
    head_width,
    layer_types,
    read_llama,
    windows_of,
)
from edgeq.models.rope import Rope, read_layered_ropes
from edgeq.models.settings import Settings

_REQUIRED = ("num_key_value_heads", "head_dim", "sliding_window")

_BASES = {"rope_theta": 1e6, "rope_local_base_freq": 1e4}


def _read_gemma2(family: Family, config: Settings) -> Decoder:
    decoder = _read(family, config, None)
    usual = [WHOLE if layer % 2 else WINDOWED for layer in range(decoder.layers)]
    return replace(decoder, windows=_windows(config, usual))


def _read_gemma3(family: Family, config: Settings) -> Decoder:
    context = config.whole("max_position_embeddings")
    rope, local = read_layered_ropes(config, head_width(config), context, _BASES)
    decoder = _read(family, config, rope)
    every = config.get("sliding_window_pattern", config.get("_sliding_window_pattern", 6))
    usual = [WINDOWED if (layer + 1) % every else WHOLE for layer in range(decoder.layers)]
    return replace(decoder, local_rope=local, qk_norm="head", windows=_windows(config, usual))


def _read(family: Family, config: Settings, rope: Rope | None) -> Decoder:
    # The first configurations have an older key without meaning.
    activation = "hidden_activation" if "hidden_activation" in config else "hidden_act"
    decoder = read_llama(family, config, rope=rope, activation=activation)
    config.ignore(["hidden_act", "hidden_activation"])
    bias = config.flag("attention_bias")
    return replace(
        decoder,
        # absent from most files; transformers then uses true
        tied=config.flag("tie_word_embeddings", True),
        attention_scale=config.number("query_pre_attn_scalar") ** -0.5,
        attention_softcap=config.optional("attn_logit_softcapping"),
        logit_softcap=config.optional("final_logit_softcapping"),
        embedding_scale=decoder.hidden**0.5,
        norm_plus_one=True,
        qkv_bias=bias,
        output_bias=bias,
    )


def _windows(config: Settings, usual: list[str]) -> tuple[int | None, ...]:
    return windows_of(layer_types(config, usual), config.optional("sliding_window"))


GEMMA2 = Family(
    "gemma2",
    _read_gemma2,
    LlamaCpp("gemma2", gelu=True, period=2),
    required=(*_REQUIRED, "attn_logit_softcapping", "final_logit_softcapping"),
    norms=AROUND,
)
GEMMA3 = Family(
    "gemma3_text",
    _read_gemma3,
    LlamaCpp("gemma3", gelu=True, period=6),
    required=_REQUIRED,
    norms=AROUND,
)
