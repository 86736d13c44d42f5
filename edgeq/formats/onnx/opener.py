"""Opens ONNX files on ONNX Runtime."""

from __future__ import annotations

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.tasks import task_of
from edgeq.core.threads import default_threads
from edgeq.formats.base import Model
from edgeq.formats.opener import Opener
from edgeq.formats.package import Package


class OnnxOpener(Opener):
    """See `Opener`."""

    name = "onnx"
    model_file = MODEL_FILE

    def open(
        self, package: Package, threads: int | None, context: int | None, units: str | None
    ) -> Model:
        """See `FileFormat.open`."""
        if task_of(package.artifact.task).generates:
            from edgeq.formats.onnx.decoder import open_decoder

            return open_decoder(package, threads or default_threads(), context)
        from edgeq.formats.onnx.model import OnnxModel

        return OnnxModel(package, threads or default_threads())

    def import_runtime(self, task: str) -> None:
        """See `FileFormat.import_runtime`."""
        if task_of(task).generates:
            import edgeq.formats.onnx.decoder
        else:
            import edgeq.formats.onnx.model  # noqa: F401
