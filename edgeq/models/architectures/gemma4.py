"""Gemma 4: heads of two widths, embeddings of each layer, and keys that later layers borrow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeq.core.errors import InvalidInput
from edgeq.models.architectures.decoder import AROUND, Decoder
from edgeq.models.architectures.family import KEYS, Family, LlamaCpp
from edgeq.models.architectures.heads import Heads
from edgeq.models.architectures.per_layer import TABLE, PerLayer
from edgeq.models.architectures.reading import (
    ELSEWHERE,
    WHOLE,
    WINDOWED,
    layer_types,
    lenders,
    read_llama,
    windows_of,
)
from edgeq.models.known_keys import Fixed
from edgeq.models.rope import read_rope_of
from edgeq.models.settings import Settings

_FIXED: Fixed = {"attention_bias": (False,)}
# Of images alone, and of the mixture that `enable_moe_block` stands for.
_IGNORED = (
    *("num_experts", "top_k_experts", "moe_intermediate_size", "vocab_size_per_layer_input"),
    "use_bidirectional_attention",
)
_ROPES: dict[str, dict[str, Any]] = {
    WHOLE: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
    WINDOWED: {"rope_type": "default", "rope_theta": 1e4},
}


def _read(family: Family, config: Settings) -> Decoder:
    problems = list(config.unsupported(_FIXED))
    if problems:
        raise InvalidInput(problems)
    if config.flag("enable_moe_block"):
        what = "config.json: enable_moe_block: a mixture of experts beside each feed-forward layer"
        raise config.error(f"{what} is not supported", f"use a model without it, or: {ELSEWHERE}")
    config.ignore(_IGNORED)
    if config.get("use_bidirectional_attention") == "all":
        raise config.unusable("use_bidirectional_attention", "all", "null or 'vision'")
    layers = config.whole("num_hidden_layers", largest=10_000)
    usual = [WINDOWED if (layer + 1) % 6 else WHOLE for layer in range(layers)]
    usual[-1] = WHOLE
    kinds = layer_types(config, usual)
    if kinds[-1] != WHOLE:
        raise config.unusable("layer_types", kinds, f"a list whose last is {WHOLE}")
    whole, borrowed = _heads(config, kinds), lenders(config, kinds)
    ropes = [
        read_rope_of(config, kind, width, _ROPES[kind])
        for kind, width in ((WHOLE, whole.head_dim), (WINDOWED, config.whole("head_dim")))
    ]
    wide = config.whole("intermediate_size")
    doubled = borrowed if config.flag("use_double_wide_mlp") else {}
    decoder = read_llama(
        family,
        config,
        rope=ropes[0],
        activation="hidden_activation",
        feed_forward=tuple(wide * (2 if layer in doubled else 1) for layer in range(layers)),
    )
    own = config.get("hidden_size_per_layer_input")
    return replace(
        decoder,
        local_rope=ropes[1],
        tied=config.flag("tie_word_embeddings", True),
        windows=windows_of(kinds, config.whole("sliding_window")),
        borrowed=borrowed,
        whole_heads=whole,
        attention_scale=1.0,
        logit_softcap=config.optional("final_logit_softcapping"),
        embedding_scale=decoder.hidden**0.5,
        qk_norm="head",
        value_norm=True,
        layer_scale=True,
        per_layer=PerLayer(config.whole("hidden_size_per_layer_input")) if own else None,
    )


def _heads(config: Settings, kinds: list[str]) -> Heads:
    """From one key for each number, or as transformers 5.24 writes them: layer by layer."""
    one_product = config.flag("attention_k_eq_v")
    usual = config.whole("num_key_value_heads")
    stated = {
        "head_dim": config.get("global_head_dim"),
        "num_key_value_heads": config.get("num_global_key_value_heads") if one_product else usual,
    }
    found = {name: value for name, value in stated.items() if value is not None}
    by_layer = config.mapping("per_layer_config")
    whole = {str(layer) for layer, kind in enumerate(kinds) if kind == WHOLE}
    own = by_layer.get(min(whole, key=int), {})
    if by_layer and (set(by_layer) != whole or any(each != own for each in by_layer.values())):
        raise config.unusable("per_layer_config", by_layer, f"the same for each layer of {WHOLE}")
    heads = Settings({"num_key_value_heads": usual, **found, **own}, config.where, "config.json")
    made = Heads(heads.whole("num_key_value_heads"), heads.whole("head_dim"), one_product)
    problems = list(heads.unread())
    if problems:
        raise InvalidInput(problems)
    if config.whole("num_attention_heads") % made.kv_heads:
        what = f"config.json: heads cannot share {made.kv_heads} key-value heads"
        raise config.error(what, "download or save the model again")
    return made


GEMMA4 = Family(
    "gemma4_text",
    _read,
    LlamaCpp("gemma4", gelu=True, layered=True, ropes=("proportional",)),
    required=("num_key_value_heads", "head_dim", "sliding_window", "hidden_size_per_layer_input"),
    norms=AROUND,
    stacked={"layer_scalar": ("layer_scale.weight",)},
    extended={TABLE: "vocab_size"},
    unread=KEYS,
)
