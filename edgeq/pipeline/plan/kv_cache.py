"""The KV cache of a language model's artifact: its type and its memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from edgeq.core.errors import Problem
from edgeq.core.kv_cache import BLOCK, BYTES_PER_VALUE, QUANTIZED, KvType
from edgeq.core.yamlfile import Document
from edgeq.devices.profile import Device
from edgeq.estimate.devices import estimate_for
from edgeq.models.architectures import Decoder
from edgeq.models.model import DescribedModel
from edgeq.pipeline.plan.contents import contents_of_plan
from edgeq.pipeline.plan.records import ArtifactPlan
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import storage
from edgeq.recipe.schema import Recipe


def with_cache(
    plan: ArtifactPlan, recipe: Recipe, model: DescribedModel, devices: Mapping[str, Device]
) -> ArtifactPlan:
    """The plan with the type and the bytes of its cache; unchanged for other models."""
    decoder, context = model.decoder, recipe.workload.context
    if decoder is None:
        return plan
    fit = next((f for f in recipe.quantize.fit if f.variant_name == plan.variant.name), None)
    bounds = [bound for bound in (recipe.budgets.memory.peak, fit and fit.memory) if bound]
    found = plan
    for kv in _types(plan, recipe, decoder, fit):
        per_token = decoder.cache_bytes_per_token(BYTES_PER_VALUE[kv])
        size = int(context * per_token) + decoder.state_bytes
        found = plan.model_copy(update={"kv": kv, "cache_bytes": size})
        if not bounds or _keeps(found, recipe, model, devices, min(bounds)):
            break
    return found


def _types(
    plan: ArtifactPlan, recipe: Recipe, decoder: Decoder, fit: FitSpec | None
) -> tuple[KvType, ...]:
    """The types to choose from, most precise first; often one."""
    asked, own = recipe.workload.kv, storage(plan.format)
    usual = own.kv_type(plan.variant.weights)
    if asked is None or len(own.kv_types) == 1:
        return (usual,)
    if asked != "auto":
        return (asked,)
    offered = own.kv_types[own.kv_types.index(usual) :]
    if any(width % BLOCK for width in _widths(decoder)):
        return tuple(kv for kv in offered if kv not in QUANTIZED)
    if fit and fit.memory:  # weights give way before the last bits of the cache do
        return tuple(kv for kv in offered if kv != "q4_0")
    return offered


def _widths(decoder: Decoder) -> set[int]:
    """The widths of key and value heads, without layers that do not attend."""
    return {decoder.head_dim_of(n) for n in range(decoder.layers) if decoder.attends(n)}


def _keeps(
    plan: ArtifactPlan,
    recipe: Recipe,
    model: DescribedModel,
    devices: Mapping[str, Device],
    limit: int,
) -> bool:
    contents, context = contents_of_plan(plan, recipe.model.task, model), recipe.workload.context
    return all(
        estimate_for(contents, device, context=context).memory.counted(device.counts).value <= limit
        for device in devices.values()
    )


def cached(intent: Intent, plan: ArtifactPlan) -> Intent:
    """The intent with the type of the cache in its plan, if that is not the usual one."""
    usual = storage(intent.format).kv_type(intent.variant.weights)
    return intent if plan.kv in (None, usual) else replace(intent, kv=plan.kv)


def unfit_cache(recipe: Recipe, document: Document, model: DescribedModel) -> Iterator[Problem]:
    """Refuse a quantized cache for heads that are not whole blocks."""
    decoder, asked = model.decoder, recipe.workload.kv
    odd = [width for width in _widths(decoder) if width % BLOCK] if decoder else []
    if odd and asked in QUANTIZED:
        what = (
            f"workload.kv: {asked} has a scale for every {BLOCK} values, and this model's heads "
            f"are {odd[0]} wide"
        )
        yield Problem(document.place(("workload", "kv")), what, "write 'kv: f16' or 'kv: auto'")
