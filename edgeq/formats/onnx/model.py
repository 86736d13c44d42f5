"""ONNX models from text to a vector and from arrays to arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.base import Array
from edgeq.formats.onnx.prepacked import open_model
from edgeq.formats.package import Package
from edgeq.formats.samples import SampleModel
from edgeq.models import onnx_session


class OnnxModel(SampleModel):
    """A `SampleModel` with its onnxruntime session."""

    def __init__(self, package: Package, threads: int) -> None:
        super().__init__(package)
        model = open_model(package, threads)
        self.runtime = f"onnxruntime {onnx_session.version()}"
        self.threads = threads
        self.prepared = model.prepared
        self._model = model
        self._names = [value.name for value in package.artifact.outputs]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `SampleModel.run`."""
        # First unchanged: checking every array would be a measurable part of a short run. The order
        # of bytes is checked, because onnxruntime takes every array for one of this machine's.
        with contextlib.suppress(Exception):  # onnxruntime's exceptions share no base class
            if all(array.dtype.isnative for array in feeds.values()):
                return self._outputs(self._model.session.run(self._names, feeds))
        return self._run(self._fitted(feeds))

    def _outputs(self, values: Sequence[Array]) -> dict[str, Array]:
        return dict(zip(self._names, values, strict=True))

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return self._outputs(self._model.session.run(self._names, dict(feeds)))
        except Exception as error:  # onnxruntime's exceptions share no base class
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
            problem = Problem(
                self.artifact.name,
                f"onnxruntime stopped on {shapes}: {onnx_session.reason(error)}",
                "change the inputs",
            )
            raise InvalidInput(problem) from error
