"""Granite 3 and the dense models of Granite 4: a llama with factors at four places."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.reading import read_llama
from edgeq.models.settings import Settings


def _read(family: Family, config: Settings) -> Decoder:
    bias = config.flag("attention_bias")
    return replace(
        read_llama(family, config),
        embedding_scale=config.number("embedding_multiplier", 1.0),
        attention_scale=config.number("attention_multiplier", 1.0),
        residual_scale=config.number("residual_multiplier", 1.0),
        logit_scale=1 / config.number("logits_scaling", 1.0),
        qkv_bias=bias,
        output_bias=bias,
    )


GRANITE = Family(
    "granite",
    _read,
    LlamaCpp("granite", neighbours=True, attention_bias=True, factors=True),
)
