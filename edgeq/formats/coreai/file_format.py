"""Core AI models, run by Apple's runtime: on macOS, and on Linux by that of its package."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeq.core.artifact import COREAI_ASSET
from edgeq.formats.apple.plan import apple_tensors
from edgeq.formats.apple.releases import Release
from edgeq.formats.base import Model
from edgeq.formats.coreai.sizes import program_bytes
from edgeq.formats.file_format import FileFormat, TensorPlan
from edgeq.formats.package import Package
from edgeq.models.model import DescribedModel
from edgeq.quantize.decide import Decision
from edgeq.quantize.number_formats.floats import FLOAT16
from edgeq.quantize.number_formats.integers import INT4_B32, INT8
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage.coreai import CoreaiStorage

if TYPE_CHECKING:  # requires the package onnx_ir
    from edgeq.models.graphs.weights import Decide, Weight


class Coreai(CoreaiStorage, FileFormat):
    """See `FileFormat`."""

    model_file = COREAI_ASSET
    section = "coreai"
    first_release = Release(27, 27)
    packages = MappingProxyType({"coreai": ("coreai",)})
    tools = ("coreai-core",)
    uses_metal = True
    compared_presets = ("palette6",)
    memory_like = "Core ML"

    def open(
        self, package: Package, threads: int | None, context: int | None, units: str | None
    ) -> Model:
        """See `FileFormat.open`."""
        from edgeq.formats.coreai.model import open_coreai

        return open_coreai(package, threads, context)

    def import_runtime(self, task: str) -> None:
        """See `FileFormat.import_runtime`."""
        from edgeq.formats.coreai.coreai import load_authoring

        load_authoring()

    def plan_tensors(
        self, model: DescribedModel, intent: Intent, compute: str
    ) -> Iterator[TensorPlan]:
        """See `FileFormat.plan_tensors`."""
        return apple_tensors(model, intent, compute, scales=FLOAT16.name)

    def settle(self, weight: Weight, decide: Decide) -> Decision:
        """See `FileFormat.settle`."""
        from edgeq.formats.apple.weights import settle_apple

        return settle_apple(weight, decide)

    def tensor_words(self, release: str | None) -> tuple[str, ...]:
        """See `FileFormat.tensor_words`."""
        return (INT4_B32.name, INT8.name, FLOAT16.name)

    def weights_word(self, most: str) -> str:
        """See `FileFormat.weights_word`."""
        return FLOAT16.name

    def input_rounding(self, grid: str) -> str:
        """Empty: inputs of operators stay float."""
        return ""

    def file_bytes(
        self, model: DescribedModel, intent: Intent, context: int, weights: int, tensors: int
    ) -> int:
        """See `FileFormat.file_bytes`."""
        tokenizer = model.directory.tokenizer.stat().st_size if model.directory else 0
        return weights + tokenizer + program_bytes(model, tensors)


COREAI = Coreai()
