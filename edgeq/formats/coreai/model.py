"""Core AI models of text and arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.formats.base import Array, Model
from edgeq.formats.coreai.decoder import CoreaiDecoder
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.package import Package
from edgeq.formats.runtime_cache import model_file
from edgeq.formats.samples import SampleModel


def open_coreai(package: Package, threads: int | None, context: int | None) -> Model:
    """Open the model in `package`; for the arguments see `edgeq.load`.

    Raises InvalidInput for a number of threads.
    """
    if threads is not None:
        what = "Core AI's runtime chooses its own number of threads"
        raise InvalidInput(Problem("threads", what, "leave it out"))
    if task_of(package.artifact.task).generates:
        return CoreaiDecoder(package, model_file(package), context)
    return CoreaiModel(package)


class CoreaiModel(SampleModel):
    """An encoder or a model of arrays."""

    threads = 1

    def __init__(self, package: Package) -> None:
        super().__init__(package)
        self._model = Runtime(model_file(package))
        self.runtime = self._model.name
        self.is_reference = not self._model.is_apples

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `SampleModel.run`."""
        answer = self._model.run(self._fitted(feeds))
        return {v.name: np.asarray(answer[v.name], v.dtype) for v in self.artifact.outputs}
