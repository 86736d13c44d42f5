"""OLMo 2 and 3: norms after each part, and of all queries and keys at once; 3 has windows."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import AFTER, Decoder
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import (
    WHOLE,
    WINDOWED,
    head_width,
    layer_types,
    read_llama,
    windows_of,
)
from edgeq.models.rope import Rope, has_layered_ropes, read_layered_ropes, read_rope
from edgeq.models.settings import Settings


def _read_olmo2(family: Family, config: Settings, rope: Rope | None = None) -> Decoder:
    bias = config.flag("attention_bias")
    decoder = read_llama(family, config, rope=rope)
    return replace(decoder, qk_norm="whole", qkv_bias=bias, output_bias=bias)


def _read_olmo3(family: Family, config: Settings) -> Decoder:
    context, width = config.whole("max_position_embeddings"), head_width(config)
    if has_layered_ropes(config):
        rope, local = read_layered_ropes(config, width, context, {"rope_theta": 1e4, "": 1e4})
    else:
        rope = read_rope(config, width, context)
        local = Rope("default", rope.theta, rope.dim)  # only the other layers are stretched
    decoder = _read_olmo2(family, config, rope)
    usual = [WHOLE if (layer + 1) % 4 == 0 else WINDOWED for layer in range(decoder.layers)]
    windows = windows_of(layer_types(config, usual), config.optional("sliding_window"))
    return replace(decoder, windows=windows, local_rope=None if local == rope else local)


OLMO2 = Family("olmo2", _read_olmo2, LlamaCpp("olmo2", square=True, period=4), norms=AFTER)
OLMO3 = Family(
    "olmo3",
    _read_olmo3,
    LlamaCpp("olmo2", square=True, period=4),
    required=("num_key_value_heads", "sliding_window"),
    norms=AFTER,
)
