"""Core ML packages on Core ML, or on edgeq's executor where Core ML does not exist."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeq.core.artifact import Artifact
from edgeq.formats.apple.file_format import AppleFormat
from edgeq.formats.coreml.deployment_targets import IOS16
from edgeq.formats.coreml.opener import CoremlOpener
from edgeq.quantize.number_formats.floats import FLOAT16
from edgeq.quantize.number_formats.integers import INT8
from edgeq.quantize.number_formats.palettes import PALETTE4, PALETTE6
from edgeq.quantize.storage.coreml import CoremlStorage

if TYPE_CHECKING:
    from edgeq.models.model import DescribedModel


class Coreml(CoremlOpener, CoremlStorage, AppleFormat):
    """See `AppleFormat`."""

    section = "coreml"
    first_release = IOS16
    packages = MappingProxyType({"coreml": ("coremltools",)})
    tools = ("coremltools",)
    has_releases = True

    def tensor_words(self, release: str | None) -> tuple[str, ...]:
        """See `FileFormat.tensor_words`. Blocks of int4 came with iOS 18; before, palettes."""
        if release in ("iOS16", "iOS17"):
            return (PALETTE4.name, PALETTE6.name, INT8.name, FLOAT16.name)
        return super().tensor_words(release)

    def program_bytes(self, model: DescribedModel, context: int, tensors: int) -> int:
        """See `AppleFormat.program_bytes`."""
        from edgeq.formats.coreml.sizes import program_bytes

        return program_bytes(model, context, tensors)

    def extras(
        self, directory: Path, artifact: Artifact, documents: Collection[str] = ()
    ) -> dict[str, bytes]:
        """The Swift package that loads it."""
        from edgeq.formats.coreml.swift import swift_files

        return swift_files(directory, artifact, documents)


COREML = Coreml()
