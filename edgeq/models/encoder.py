"""Checks of a sentence encoder's config.json, so that no setting is lost in the export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import Task
from edgeq.models.known_keys import ENCODER_FIXED, ENCODER_KEYS, HARMLESS
from edgeq.models.settings import Settings


def check_encoder(
    config: Mapping[str, Any], where: str, noun: str, instead: str = "as an .onnx file"
) -> None:
    """Raise InvalidInput for an unsupported family, and for an unknown setting.

    noun: the wanted kind of model, with its article. instead: how others can be built.
    """
    family = config.get("model_type")
    keys = ENCODER_KEYS.get(str(family))
    if keys is None:
        what = f"the architecture {family!r} is not supported as {noun}"
        remedy = f"supported: {', '.join(ENCODER_KEYS)}; others: {instead}"
        raise InvalidInput(Problem(where, what, remedy))
    settings = Settings(config, where, "config.json")
    settings.ignore(HARMLESS | keys)
    problems = [*settings.unsupported(ENCODER_FIXED[str(family)]), *settings.unread()]
    if problems:
        raise InvalidInput(problems)


def is_unused(name: str, task: Task) -> bool:
    """Whether the task's answers do not depend on the weight with this name."""
    return any(f".{prefix}" in f".{name}" for prefix in task.unused_weights)
