"""How many bytes an artifact takes to download and a language model's cache in memory."""

from __future__ import annotations

from edgeq.models.architecture import DEFAULT_CONTEXT
from edgeq.models.model import DescribedModel
from edgeq.pipeline.plan.coreml import program_bytes
from edgeq.pipeline.plan.tensors import gguf_decisions
from edgeq.pipeline.recover.sizes import adapter_bytes
from edgeq.quantize.spec import Intent
from edgeq.recipe.schema import Recipe

# The graph itself, beside its weights: seen between 40 and 60 KiB for encoders of 6 to 12 layers.
_GRAPH_BYTES_PER_TENSOR = 600


def download_bytes(
    model: DescribedModel, intent: Intent, context: int, weights: int, tensors: int
) -> int:
    """Weights with what stands beside them: graph and tokenizer, or the metadata of a GGUF file."""
    tokenizer = model.directory.tokenizer.stat().st_size if model.directory else 0
    if intent.format == "onnx":
        return (
            weights + tokenizer + _GRAPH_BYTES_PER_TENSOR * tensors + _rotary_bytes(model, context)
        )
    if intent.format == "coreml":
        return weights + tokenizer + program_bytes(model, context, tensors)
    assert model.directory is not None
    if model.directory.tensors:
        from edgeq.formats.gguf.write import planned_bytes

        decisions = gguf_decisions(model, intent)
        recover = intent.variant.recover
        beside = adapter_bytes(model, "gguf", recover.rank) if recover else 0
        return beside + planned_bytes(model.directory, decisions, mix=intent.variant.weights)
    # tokenizer.json spells every token and merge with quotes and indentation, GGUF without.
    return weights + tokenizer // 2


def _rotary_bytes(model: DescribedModel, context: int) -> int:
    """A decoder's ONNX graph has the sines and cosines of every position it is good for."""
    if model.decoder is None:
        return 0
    positions = min(max(context, DEFAULT_CONTEXT), model.decoder.context)
    tables = 2 if model.decoder.local_rope else 1
    return tables * positions * model.decoder.rope_dim * 4


def cache_bytes(recipe: Recipe, model: DescribedModel, intent: Intent) -> int | None:
    """Keys and values of `workload.context` positions; None for what has none.

    They are float32 in onnxruntime's CPU kernels and beside GGUF's float weights.
    """
    if model.decoder is None:
        return None
    is_half = intent.format == "coreml" or (
        intent.format == "gguf" and intent.variant.weights != "float32"
    )
    per_token = model.decoder.cache_bytes_per_token(2 if is_half else 4)
    return int(recipe.workload.context * per_token)
