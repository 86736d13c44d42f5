"""The estimated size of a Core AI model beyond its weights."""

from __future__ import annotations

from edgeq.models.model import DescribedModel

_BYTES_PER_TENSOR = 500
"""Of operators around each weight, and small constants."""


def program_bytes(model: DescribedModel, tensors: int) -> int:
    """Estimated size of a program without its weights."""
    return _BYTES_PER_TENSOR * tensors
