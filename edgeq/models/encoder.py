"""What a sentence encoder's config.json may say: transformers exports it, nothing may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.known_keys import ENCODER_FIXED, ENCODER_KEYS, HARMLESS
from edgeq.models.settings import Settings

UNUSED = ("pooler.", "cls.", "lm_head.", "vocab_", "discriminator_predictions.", "predictions.")
"""Starts of names, anywhere in them, of weights that no sentence vector depends on."""


def check_encoder(config: Mapping[str, Any], where: str) -> None:
    """Raise InvalidInput for a family that is not supported, and for a setting nobody reads."""
    family = config.get("model_type")
    keys = ENCODER_KEYS.get(str(family))
    if keys is None:
        what = f"the architecture {family!r} is not supported as a sentence encoder"
        remedy = f"supported: {', '.join(ENCODER_KEYS)}; others as an .onnx file"
        raise InvalidInput(Problem(where, what, remedy))
    settings = Settings(config, where, "config.json")
    settings.ignore(HARMLESS | keys)
    problems = [*settings.unsupported(ENCODER_FIXED[str(family)]), *settings.unread()]
    if problems:
        raise InvalidInput(problems)


def is_unused(name: str) -> bool:
    """Whether a sentence vector does not depend on the weight with this name."""
    return any(f".{prefix}" in f".{name}" for prefix in UNUSED)
