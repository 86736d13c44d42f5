"""Opens Core AI models on Apple's runtime: on macOS, and on Linux on that of its package."""

from __future__ import annotations

from edgeq.core.artifact import COREAI_ASSET
from edgeq.formats.base import Model
from edgeq.formats.opener import Opener
from edgeq.formats.package import Package


class CoreaiOpener(Opener):
    """See `Opener`."""

    name = "coreai"
    model_file = COREAI_ASSET

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
