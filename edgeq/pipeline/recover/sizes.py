"""The size of an adapter in files, from the model's shapes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.formats.registry import file_format
from edgeq.quantize.adapter import planned_factors

if TYPE_CHECKING:
    from edgeq.models.model import DescribedModel


def adapter_bytes(model: DescribedModel, format: str, rank: int) -> int:
    """Bytes that an adapter of `rank` adds to an artifact.

    For GGUF the whole adapter file next to the model's, for ONNX the factors: what they add to the
    graph is estimated with the graph. Raises Missing if GGUF's types are not available.
    """
    factors = planned_factors(model.tensors, rank)
    return file_format(format).adapter_bytes(model, factors, rank)
