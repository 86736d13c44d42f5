"""Qwen 3: a llama with norms of each head's queries and keys."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import optional_windows, read_llama
from edgeq.models.settings import Settings


def _read(family: Family, config: Settings) -> Decoder:
    bias = config.flag("attention_bias")
    decoder = read_llama(family, config)
    windows = optional_windows(config, decoder.layers)
    return replace(decoder, qk_norm="head", qkv_bias=bias, output_bias=bias, windows=windows)


QWEN3 = Family("qwen3", _read, LlamaCpp("qwen3"), required=("num_key_value_heads", "head_dim"))
