"""The memory of a language model's KV cache."""

from __future__ import annotations

from edgeq.formats.registry import file_format
from edgeq.models.model import DescribedModel
from edgeq.quantize.spec import Intent
from edgeq.recipe.schema import Recipe


def cache_bytes(recipe: Recipe, model: DescribedModel, intent: Intent) -> int | None:
    """Bytes of the KV cache for `workload.context` positions; None for a model without one."""
    if model.decoder is None:
        return None
    size = file_format(intent.format).cache_value_bytes(intent.variant.weights)
    return int(recipe.workload.context * model.decoder.cache_bytes_per_token(size))
