"""The records of a plan."""

from __future__ import annotations

from edgeq.core.artifact import Frozen
from edgeq.core.kv_cache import KvType
from edgeq.formats.file_format import TensorPlan
from edgeq.quantize.presets import Variant
from edgeq.quantize.storage import Format


class ArtifactPlan(Frozen):
    """One artifact of the plan.

    `download_bytes` is estimated: the graph of an ONNX file is not known before it is made, nor the
    vocabulary of a GGUF file if only its model's configuration is available. `cache_bytes`: the KV
    cache of a language model at `workload.context` positions, and `kv` its type; None for other
    tasks.
    `deployment_target`: the oldest release of Apple's systems that runs it, None for other formats.
    `advice`: where its runtime differs from the model, how its Core ML devices handle its number
    formats, and other remarks. `pending`: why its tensors are not known yet, for a budget whose
    number formats are chosen when it is built; else empty. Then `download_bytes` is the maximum,
    and `smallest_bytes` the minimum, None if unknown.
    """

    name: str
    format: Format
    variant: Variant
    tensors: tuple[TensorPlan, ...]
    weight_bytes: int
    download_bytes: int
    kv: KvType | None = None
    cache_bytes: int | None = None
    deployment_target: str | None = None
    devices: tuple[str, ...]
    advice: tuple[str, ...] = ()
    pending: str = ""
    smallest_bytes: int | None = None


class Plan(Frozen):
    """The steps and results of building a recipe, without building it.

    `reference`: the runtime of the original, with which the float model is first compared.
    """

    recipe: str
    source: str
    revision: str | None
    licence: str | None
    artifacts: tuple[ArtifactPlan, ...]
    size_budget: int | None
    missing_packages: tuple[str, ...]
    extras: tuple[str, ...]
    reference: str
