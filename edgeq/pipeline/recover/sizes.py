"""What an adapter takes in files, from the model's shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeq.quantize.adapter import planned_factors

if TYPE_CHECKING:
    from edgeq.models.model import DescribedModel


def adapter_bytes(model: DescribedModel, format: str, rank: int) -> int:
    """Bytes that an adapter of `rank` adds to an artifact.

    Of GGUF the whole file that lies beside the model's, of ONNX the factors: what they add to the
    graph is estimated with the rest of it. Raises Missing where GGUF's types are not here.
    """
    shapes: Mapping[str, tuple[int, ...]] = model.tensors
    factors = planned_factors(shapes, rank)
    if format != "gguf":
        return sum(factors.values())
    from edgeq.formats.gguf.adapter import planned_file_bytes

    assert model.decoder is not None
    return planned_file_bytes(model.decoder, {name: shapes[name] for name in factors}, rank)
