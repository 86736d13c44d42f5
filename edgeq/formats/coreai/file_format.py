"""Core AI models, run by Apple's runtime: on macOS, and on Linux by that of its package."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeq.core.artifact import Artifact
from edgeq.formats.apple.file_format import AppleFormat
from edgeq.formats.apple.releases import Release
from edgeq.formats.coreai.opener import CoreaiOpener
from edgeq.quantize.number_formats.floats import FLOAT16
from edgeq.quantize.storage.coreai import CoreaiStorage

if TYPE_CHECKING:
    from edgeq.models.model import DescribedModel

_BYTES_PER_TENSOR = 500
"""What operators around each weight and small constants take."""


class Coreai(CoreaiOpener, CoreaiStorage, AppleFormat):
    """See `AppleFormat`."""

    section = "coreai"
    first_release = Release(27, 27)
    packages = MappingProxyType({"coreai": ("coreai",)})
    tools = ("coreai-core",)
    scales = FLOAT16.name

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
