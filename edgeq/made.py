"""What the writer of a file format says of the files it wrote, for the artifact's record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeq.artifact import TensorRecord, ValueInfo
from edgeq.quantize.spec import Intent


@dataclass(frozen=True)
class Made:
    """The files by name, and what the record shall hold about them.

    max_tokens: the longest text the files take; None for what the model itself takes.
    """

    files: list[str]
    tensors: dict[str, TensorRecord]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    settings: dict[str, Any]
    max_tokens: int | None = None


def settings_of(intent: Intent) -> dict[str, Any]:
    """The settings of a variant, as the record has them."""
    return intent.variant.model_dump(mode="json", exclude={"name"})
