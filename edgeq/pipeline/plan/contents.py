"""Predict the contents of a planned artifact's files."""

from __future__ import annotations

from edgeq.estimate.contents import Contents, Weight, sizes_of_weights, speed_label
from edgeq.estimate.sizes import Sizes, sizes_of_decoder
from edgeq.models.model import DescribedModel
from edgeq.pipeline.plan.records import ArtifactPlan


def contents_of_plan(plan: ArtifactPlan, task: str, model: DescribedModel) -> Contents:
    """The contents of a planned artifact of `model`, for the recipe's `task`."""
    weights = {t.name: Weight(t.shape, t.number_format, t.bytes) for t in plan.tensors}
    text = model.text
    longest = text.max_tokens if text else 0
    sizes = _sizes(model)
    return Contents(
        format=plan.format,
        label=speed_label(plan.variant.name, plan.variant.weights, task),
        task=task,
        weights=weights,
        file_bytes=plan.download_bytes,
        sizes=sizes or sizes_of_weights(weights, task, longest),
        tokenizer_bytes=text.tokenizer.stat().st_size if text else 0,
        max_tokens=longest,
        kv=plan.kv,
    )


def _sizes(model: DescribedModel) -> Sizes | None:
    if model.unread is not None:
        from edgeq.estimate.header_sizes import sizes_of_header
        from edgeq.formats.gguf.parts import read_whole

        return sizes_of_header(read_whole(model.unread))
    return sizes_of_decoder(model.decoder) if model.decoder else None
