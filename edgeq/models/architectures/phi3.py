"""Phi 3 and 4: joined projections, a part of each head rotates, a rope of two sets of divisors."""

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

_ROPE = ("original_max_position_embeddings", "partial_rotary_factor")


def _read(family: Family, config: Settings) -> Decoder:
    refuse_bias(config)
    context = config.whole("max_position_embeddings")
    rope = read_rope(config, head_width(config), context, dict.fromkeys(_ROPE))
    decoder = read_llama(family, config, rope=rope)
    usual = [WINDOWED] * decoder.layers
    kinds = layer_types(config, usual)
    if kinds != usual:
        raise config.unusable("layer_types", kinds, "what every layer of the family has")
    return replace(decoder, windows=windows_of(kinds, config.optional("sliding_window")))


PHI3 = Family(
    "phi3",
    _read,
    LlamaCpp("phi3", square=True, part_of_head=True, ropes=("longrope",)),
    required=(),
    fused_qkv=True,
    fused_gate_up=True,
)
