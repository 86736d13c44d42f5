"""Core ML packages on Core ML, or on edgeq's executor where Core ML does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeq.core.artifact import COREML_PACKAGE, Artifact
from edgeq.formats.apple.plan import apple_tensors
from edgeq.formats.base import Model
from edgeq.formats.coreml.deployment_targets import IOS16
from edgeq.formats.coreml.sizes import program_bytes
from edgeq.formats.file_format import FileFormat, TensorPlan
from edgeq.formats.package import Package
from edgeq.models.model import DescribedModel
from edgeq.quantize.decide import Decision
from edgeq.quantize.number_formats.floats import FLOAT16
from edgeq.quantize.number_formats.integers import INT4_B32, INT8
from edgeq.quantize.number_formats.palettes import PALETTE4, PALETTE6
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage.coreml import CoremlStorage

if TYPE_CHECKING:  # requires the package onnx_ir
    from edgeq.models.graphs.weights import Decide, Weight


class Coreml(CoremlStorage, FileFormat):
    """See `FileFormat`."""

    model_file = COREML_PACKAGE
    section = "coreml"
    first_release = IOS16
    packages = MappingProxyType({"coreml": ("coremltools",)})
    tools = ("coremltools",)
    has_releases = True
    uses_metal = True
    compared_presets = ("palette6",)
    memory_like = "Core ML"

    def open(
        self, package: Package, threads: int | None, context: int | None, units: str | None
    ) -> Model:
        """See `FileFormat.open`."""
        from edgeq.formats.coreml.model import open_coreml

        return open_coreml(package, threads, context, units)

    def import_runtime(self, task: str) -> None:
        """See `FileFormat.import_runtime`."""
        from edgeq.formats.coreml.backend import import_runtime

        import_runtime()

    def plan_tensors(
        self, model: DescribedModel, intent: Intent, compute: str
    ) -> Iterator[TensorPlan]:
        """See `FileFormat.plan_tensors`."""
        return apple_tensors(model, intent, compute)

    def settle(self, weight: Weight, decide: Decide) -> Decision:
        """See `FileFormat.settle`."""
        from edgeq.formats.apple.weights import settle_apple

        return settle_apple(weight, decide)

    def tensor_words(self, release: str | None) -> tuple[str, ...]:
        """See `FileFormat.tensor_words`. Blocks of int4 came with iOS 18; before, palettes."""
        if release in ("iOS16", "iOS17"):
            return (PALETTE4.name, PALETTE6.name, INT8.name, FLOAT16.name)
        return (INT4_B32.name, INT8.name, FLOAT16.name)

    def weights_word(self, most: str) -> str:
        """See `FileFormat.weights_word`."""
        return FLOAT16.name

    def input_rounding(self, grid: str) -> str:
        """Empty: off a Mac, the executor rounds nothing that the float graph does not round."""
        return ""

    def file_bytes(
        self, model: DescribedModel, intent: Intent, context: int, weights: int, tensors: int
    ) -> int:
        """See `FileFormat.file_bytes`."""
        tokenizer = model.directory.tokenizer.stat().st_size if model.directory else 0
        return weights + tokenizer + program_bytes(model, context, tensors)

    def extras(self, directory: Path, artifact: Artifact) -> dict[str, bytes]:
        """The Swift file that loads the package."""
        from edgeq.formats.coreml.swift import SWIFT_FILE, swift_file

        return {SWIFT_FILE: swift_file(directory, artifact).encode()}


COREML = Coreml()
