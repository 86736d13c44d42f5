"""Llama 1 to 3, SmolLM 2, and all others that are saved as a llama."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import read_llama
from edgeq.models.settings import Settings


def _read(family: Family, config: Settings) -> Decoder:
    bias = config.flag("attention_bias")
    return replace(read_llama(family, config), qkv_bias=bias, output_bias=bias)


LLAMA = Family(
    "llama",
    _read,
    LlamaCpp("llama", neighbours=True, attention_bias=True, ropes=("llama3",)),
    required=(),
)
