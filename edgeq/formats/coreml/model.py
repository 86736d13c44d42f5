"""Core ML packages: models of text and arrays, and language models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.formats.base import Array, Model
from edgeq.formats.coreml.backend import Backend
from edgeq.formats.coreml.decoder import CoremlDecoder
from edgeq.formats.coreml.executor.images import pixels
from edgeq.formats.coreml.lengths import filled, next_length
from edgeq.formats.coreml.open_backend import open_backend
from edgeq.formats.package import Package
from edgeq.formats.runtime_cache import model_file
from edgeq.formats.samples import SampleModel


def open_coreml(
    package: Package, threads: int | None, context: int | None, compute_units: str | None
) -> Model:
    """Open the model in `package`; for the arguments see `edgeq.load`.

    Raises InvalidInput for arguments that do not apply to the model, Missing without coremltools.
    """
    backend = open_backend(model_file(package), threads, compute_units)
    if task_of(package.artifact.task).generates:
        return CoremlDecoder(package, backend, context)
    return CoremlModel(package, backend)


class CoremlModel(SampleModel):
    """An encoder or a model of arrays as a Core ML package."""

    def __init__(self, package: Package, backend: Backend) -> None:
        super().__init__(package)
        self.runtime, self.threads = backend.runtime, backend.threads
        self.is_reference = backend.is_reference
        self._backend = backend

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `SampleModel.run`.

        Tokens of a text are padded with zeros to the next supported length; the attention mask is 0
        there. For an image, the array has the layout of the .onnx file, and is converted to the
        package's pixels.
        """
        given = {name: np.asarray(array) for name, array in feeds.items()}
        image = self.artifact.settings.get("image")
        if image is not None and image["input"] in given:
            name = image["input"]
            given[name] = pixels(given[name], image["scale"], image["bias"])
        tokens = next((array.shape[-1] for array in given.values() if array.ndim), 0)
        if self.artifact.text is not None:
            given = {name: self._filled_up(name, array) for name, array in given.items()}
        ready = self._fitted(given)
        inputs = self._backend.interface.inputs
        problems = [
            Problem(f"input {name!r}", f"has shape {array.shape}", f"it can be {wanted.wanted}")
            for name, array in ready.items()
            if not (wanted := inputs[name]).allows(array.shape)
        ]
        if problems:
            raise InvalidInput(problems)
        answer = self._backend.predict(ready)
        found = {v.name: np.asarray(answer[v.name], v.dtype) for v in self.artifact.outputs}
        if task_of(self.artifact.task).tags:  # without the answers for padding
            found = {name: array[:, :tokens] for name, array in found.items()}
        return found

    def facts(self) -> dict[str, Any]:
        """See `Model.facts`."""
        return self._backend.facts()

    def _filled_up(self, name: str, array: Array) -> Array:
        wanted = self._backend.interface.inputs.get(name)
        if wanted is None or array.ndim != 2:
            return array
        length = next_length(wanted, array.shape[-1])
        return array if length is None else filled(array, length)
