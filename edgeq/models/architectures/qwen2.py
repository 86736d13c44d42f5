"""Qwen 1.5, 2 and 2.5: a llama with biases of queries, keys and values."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import optional_windows, read_llama, refuse_bias
from edgeq.models.settings import Settings


def _read(family: Family, config: Settings) -> Decoder:
    refuse_bias(config, own=True)
    decoder = read_llama(family, config)
    return replace(decoder, qkv_bias=True, windows=optional_windows(config, decoder.layers))


QWEN2 = Family("qwen2", _read, LlamaCpp("qwen2", attention_bias=True, square=True))
