"""SmolLM 3: a llama in which every fourth layer has no positions."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import head_width, optional_windows, read_llama
from edgeq.models.rope import read_rope
from edgeq.models.settings import Settings


def _read(family: Family, config: Settings) -> Decoder:
    bias = config.flag("attention_bias")
    context = config.whole("max_position_embeddings")
    rope = read_rope(config, head_width(config), context, theta=2e6)
    decoder = read_llama(family, config, rope=rope)
    return replace(
        decoder,
        tied=config.flag("tie_word_embeddings", True),  # as transformers if the file does not say
        rotates=_rotates(config, decoder.layers),
        windows=optional_windows(config, decoder.layers),
        qkv_bias=bias,
        output_bias=bias,
    )


def _rotates(config: Settings, layers: int) -> tuple[bool, ...]:
    every = config.whole("no_rope_layer_interval", 4)
    usual = [int((layer + 1) % every != 0) for layer in range(layers)]
    found = config.get("no_rope_layers", usual)
    if not isinstance(found, list) or len(found) != layers or not set(found) <= {0, 1}:
        raise config.unusable("no_rope_layers", found, f"a list of {layers} of 0 and 1")
    return tuple(map(bool, found))


SMOLLM3 = Family(
    "smollm3",
    _read,
    LlamaCpp("smollm3", neighbours=True, attention_bias=True, still=4),
    required=("num_key_value_heads",),
)
