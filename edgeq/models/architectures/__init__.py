"""Architectures of language models, read from `config.json` once for all exporters.

One file for each family, which says how its configuration is read and what llama.cpp makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.architectures.decoder import DEFAULT_CONTEXT, Decoder, Norms
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.file_decoder import FILE, read_file_decoder
from edgeq.models.architectures.gemma import GEMMA2, GEMMA3
from edgeq.models.architectures.gemma3n import GEMMA3N
from edgeq.models.architectures.gemma4 import GEMMA4
from edgeq.models.architectures.glm4 import GLM4
from edgeq.models.architectures.gpt_oss import GPT_OSS
from edgeq.models.architectures.granite import GRANITE, GRANITE4
from edgeq.models.architectures.lfm2 import LFM2, LFM2_MOE
from edgeq.models.architectures.llama import LLAMA
from edgeq.models.architectures.mistral import MINISTRAL, MINISTRAL3, MISTRAL
from edgeq.models.architectures.olmo import OLMO2, OLMO3
from edgeq.models.architectures.phi3 import PHI3
from edgeq.models.architectures.qwen2 import QWEN2
from edgeq.models.architectures.qwen3 import QWEN3
from edgeq.models.architectures.qwen3_moe import QWEN3_MOE
from edgeq.models.architectures.qwen35 import QWEN35, QWEN35_MOE
from edgeq.models.architectures.reading import ELSEWHERE
from edgeq.models.architectures.smollm3 import SMOLLM3
from edgeq.models.known_keys import DECODER_FIXED, HARMLESS
from edgeq.models.settings import Settings

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(LLAMA, MISTRAL, MINISTRAL, MINISTRAL3, QWEN2, QWEN3, QWEN3_MOE, GEMMA2, GEMMA3, PHI3),
        *(SMOLLM3, GRANITE, GRANITE4, OLMO2, OLMO3, GLM4, LFM2, LFM2_MOE, GPT_OSS),
        *(QWEN35, QWEN35_MOE, GEMMA3N, GEMMA4),
    )
}
"""Every family, by `model_type` in config.json."""

_OPERATORS = {"full_attention", "sliding_attention", "attention", "linear_attention", "conv"}

__all__ = (
    "DEFAULT_CONTEXT",
    "FAMILIES",
    "Decoder",
    "Family",
    "LlamaCpp",
    "Norms",
    "decoder_of",
)


def decoder_of(config: Mapping[str, Any], where: str) -> Decoder:
    """Parse a `config.json`; `where` is the place that errors name.

    Raises InvalidInput for an unsupported architecture, naming the supported ones, and for settings
    of a supported one that no exporter implements.
    """
    name = config.get("model_type")
    if name == FILE:
        return read_file_decoder(config)
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        what = f"the architecture {name!r} is not supported{_lacking(config)}"
        remedy = f"supported: {', '.join(FAMILIES)}; of others, {ELSEWHERE}"
        raise InvalidInput(Problem(where, what, remedy))
    settings = Settings(config, where, "config.json")
    settings.ignore(HARMLESS)
    settings.ignore(["model_type"])
    problems = list(settings.unsupported(DECODER_FIXED))
    if problems:
        raise InvalidInput(problems)
    decoder = family.read(family, settings)
    problems = list(settings.unread())
    if problems:
        raise InvalidInput(problems)
    return decoder


def _lacking(config: Mapping[str, Any]) -> str:
    """The operators that no exporter has, as far as the configuration names them."""
    kinds = config.get("layer_types")
    named = {kind for kind in kinds if isinstance(kind, str)} if isinstance(kinds, list) else set()
    found = [f"layers of {kind!r}" for kind in sorted(named - _OPERATORS)[:3]]
    return f": there is no operator for {' and '.join(found)}" if found else ""
