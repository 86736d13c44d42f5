"""Mistral 7B, Mistral Small and Ministral: a llama, with a window in every layer or in some.

Ministral 3 also multiplies queries by a factor that grows with their position.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import (
    WINDOWED,
    head_width,
    layer_types,
    read_llama,
    refuse_bias,
    windows_of,
)
from edgeq.models.rope import read_rope
from edgeq.models.settings import Settings

_GROWTH = "llama_4_scaling_beta"
_LLAMA_CPP = LlamaCpp("llama", neighbours=True, attention_bias=True, ropes=("llama3",))


def _read(family: Family, config: Settings) -> Decoder:
    refuse_bias(config)
    decoder = read_llama(family, config)
    config.need("sliding_window")  # transformers would use 4,096
    usual = [WINDOWED] * decoder.layers
    kinds = layer_types(config, usual)
    if kinds != usual:
        raise config.unusable("layer_types", kinds, "what every layer of the family has")
    return replace(decoder, windows=windows_of(kinds, config.optional("sliding_window")))


def _read_ministral(family: Family, config: Settings) -> Decoder:
    refuse_bias(config)
    decoder = read_llama(family, config)
    window = config.optional("sliding_window")
    kinds = layer_types(config, [WINDOWED] * decoder.layers)
    return replace(decoder, windows=windows_of(kinds, window))


def _read_ministral3(family: Family, config: Settings) -> Decoder:
    refuse_bias(config)
    context = config.whole("max_position_embeddings")
    rope = read_rope(config, head_width(config), context, others=[_GROWTH])
    growth = config.mapping("rope_parameters").get(_GROWTH)
    if not isinstance(growth, int | float) or growth < 0:
        raise config.unusable(f"rope_parameters: {_GROWTH}", growth, "a number from 0")
    decoder = replace(read_llama(family, config, rope=rope), query_growth=float(growth))
    kinds = [WINDOWED] * decoder.layers
    return replace(decoder, windows=windows_of(kinds, config.optional("sliding_window")))


MISTRAL = Family("mistral", _read, _LLAMA_CPP)
MINISTRAL = Family(
    "ministral",
    _read_ministral,
    _LLAMA_CPP,
    required=("num_key_value_heads", "layer_types", "sliding_window"),
)
MINISTRAL3 = Family(
    "ministral3",
    _read_ministral3,
    LlamaCpp("mistral3", neighbours=True, attention_bias=True, growth=True),
    required=("num_key_value_heads", "rope_parameters"),
)
