"""Core AI models, run by Apple's runtime: on macOS, and on Linux by that of its package."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeq.core.artifact import COREAI_ASSET, Artifact
from edgeq.formats.apple.file_format import AppleFormat
from edgeq.formats.apple.releases import Release
from edgeq.formats.base import Model
from edgeq.formats.package import Package
from edgeq.quantize.number_formats.floats import FLOAT16
from edgeq.quantize.storage.coreai import CoreaiStorage

if TYPE_CHECKING:
    from edgeq.models.model import DescribedModel

_BYTES_PER_TENSOR = 500
"""What operators around each weight and small constants take."""


class Coreai(CoreaiStorage, AppleFormat):
    """See `AppleFormat`."""

    model_file = COREAI_ASSET
    section = "coreai"
    first_release = Release(27, 27)
    packages = MappingProxyType({"coreai": ("coreai",)})
    tools = ("coreai-core",)
    scales = FLOAT16.name

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

    def program_bytes(self, model: DescribedModel, context: int, tensors: int) -> int:
        """See `AppleFormat.program_bytes`."""
        return _BYTES_PER_TENSOR * tensors

    def extras(
        self, directory: Path, artifact: Artifact, documents: Collection[str] = ()
    ) -> dict[str, bytes]:
        """The Swift package that loads it."""
        from edgeq.formats.coreai.swift import swift_files

        return swift_files(directory, artifact, documents)


COREAI = Coreai()
