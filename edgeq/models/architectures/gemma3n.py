"""Gemma 3n: several hidden states, embeddings of each layer, and keys that later layers borrow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeq.models.architectures.altup import SCALE, AltUp
from edgeq.models.architectures.decoder import AROUND, Decoder
from edgeq.models.architectures.family import KEYS, Family, LlamaCpp
from edgeq.models.architectures.per_layer import TABLE, PerLayer
from edgeq.models.architectures.reading import (
    WHOLE,
    WINDOWED,
    feed_forwards,
    head_width,
    layer_types,
    lenders,
    read_llama,
    refuse_bias,
    windows_of,
)
from edgeq.models.rope import read_layered_ropes
from edgeq.models.settings import Settings

_BASES = {"rope_theta": 1e6, "rope_local_base_freq": 1e4}
# Of the first configurations; transformers reads neither.
_WITHOUT_MEANING = ("altup_lr_multiplier", "query_pre_attn_scalar")
# transformers 4 writes this name where the text part is saved by itself.
_SAVED_BY_4 = "per_layer_model.language_model_projection.weight"
_SPARSE_LAYERS, _SPARSITY = 10, 0.95


def _read(family: Family, config: Settings) -> Decoder:
    config.ignore(_WITHOUT_MEANING)
    refuse_bias(config)
    context = config.whole("max_position_embeddings")
    rope, local = read_layered_ropes(config, head_width(config), context, _BASES)
    decoder = read_llama(
        family,
        config,
        rope=rope,
        activation="hidden_activation",
        feed_forward=feed_forwards(config, "intermediate_size"),
    )
    usual = [WINDOWED if (layer + 1) % 5 else WHOLE for layer in range(decoder.layers)]
    kinds = layer_types(config, usual)
    config.need("final_logit_softcapping")  # transformers would cap at 30
    return replace(
        decoder,
        local_rope=local,
        tied=config.flag("tie_word_embeddings", True),
        windows=windows_of(kinds, config.whole("sliding_window")),
        borrowed=lenders(config, kinds),
        attention_scale=1.0,
        logit_softcap=config.optional("final_logit_softcapping"),
        embedding_scale=decoder.hidden**0.5,
        qk_norm="head",
        value_norm=True,
        unread_keys=True,
        per_layer=_per_layer(config, decoder.vocabulary),
        altup=_altup(config, decoder.layers),
    )


def _per_layer(config: Settings, vocabulary: int) -> PerLayer:
    rows = config.whole("vocab_size_per_layer_input")
    if rows > vocabulary:
        wanted = f"at most {vocabulary}, the vocabulary"
        raise config.unusable("vocab_size_per_layer_input", rows, wanted)
    return PerLayer(config.whole("hidden_size_per_layer_input"))


def _altup(config: Settings, layers: int) -> AltUp:
    count, active = config.whole("altup_num_inputs"), config.need("altup_active_idx")
    if count < 2:
        raise config.unusable("altup_num_inputs", count, "2 or more")
    if active not in range(count):
        raise config.unusable("altup_active_idx", active, f"a number below {count}")
    config.need("altup_coef_clip")  # transformers would clip at 120
    return AltUp(
        count=count,
        active=active,
        clip=config.optional("altup_coef_clip") or float("inf"),
        scaled=config.flag("altup_correct_scale", True),
        rank=config.whole("laurel_rank"),
        sparsity=_sparsity(config, layers),
    )


def _sparsity(config: Settings, layers: int) -> tuple[float, ...]:
    sparse = _SPARSE_LAYERS if layers > _SPARSE_LAYERS else 0
    usual = [_SPARSITY] * sparse + [0.0] * (layers - sparse)
    found: Any = config.get("activation_sparsity_pattern", usual)
    is_list = isinstance(found, list) and len(found) == layers
    if not is_list or not all(isinstance(x, int | float) and 0 <= x < 1 for x in found):
        wanted = f"a list of {layers} shares below 1"
        raise config.unusable("activation_sparsity_pattern", found, wanted)
    return tuple(map(float, found))


GEMMA3N = Family(
    "gemma3n_text",
    _read,
    LlamaCpp("gemma3n", gelu=True, period=5),
    required=(
        *("num_key_value_heads", "head_dim", "sliding_window", "num_kv_shared_layers"),
        *("laurel_rank", "altup_num_inputs", "hidden_size_per_layer_input"),
    ),
    norms=AROUND,
    stacked={
        "altup.correct_output_scale": (SCALE,),
        _SAVED_BY_4: ("per_layer_model_projection.weight",),
    },
    extended={TABLE: "vocab_size"},
    unread=KEYS,
)
