"""Opens Core ML packages on Core ML, or on edgeq's executor where Core ML does not exist."""

from __future__ import annotations

from edgeq.core.artifact import COREML_PACKAGE
from edgeq.formats.base import Model
from edgeq.formats.opener import Opener
from edgeq.formats.package import Package


class CoremlOpener(Opener):
    """See `Opener`."""

    name = "coreml"
    model_file = COREML_PACKAGE

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
