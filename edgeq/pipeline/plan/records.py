"""What a plan says, as records."""

from __future__ import annotations

from edgeq.core.artifact import Frozen
from edgeq.formats.file_format import TensorPlan
from edgeq.quantize.presets import Variant
from edgeq.quantize.storage import Format


class ArtifactPlan(Frozen):
    """One artifact of the plan.

    `download_bytes` is estimated: the graph of an ONNX file is not known before it is made, nor is
    the vocabulary of a GGUF file where only its model's configuration is here. `cache_bytes`: keys
    and values of a language model at `workload.context` positions, None for other tasks.
    `deployment_target`: the oldest release of Apple's systems that runs it, None for other formats.
    `advice`: what its Core ML devices make of its number formats, and what else there is to know of
    it. `pending`: why its tensors are not known yet, for a budget whose number formats are chosen
    when it is built; else empty. Then `download_bytes` is the most that it may become, and
    `smallest_bytes` the least, None where that is not known.
    """

    name: str
    format: Format
    variant: Variant
    tensors: tuple[TensorPlan, ...]
    weight_bytes: int
    download_bytes: int
    cache_bytes: int | None = None
    deployment_target: str | None = None
    devices: tuple[str, ...]
    advice: tuple[str, ...] = ()
    pending: str = ""
    smallest_bytes: int | None = None


class Plan(Frozen):
    """What a build of a recipe would do.

    `reference`: what will run the original, which the float model is compared with first.
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
