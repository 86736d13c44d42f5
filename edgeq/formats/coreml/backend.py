"""The backend of a Core ML package: Core ML on macOS, elsewhere edgeq's executor as a reference."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from edgeq.formats.base import Array
from edgeq.formats.coreml.coremltools import load_coremltools
from edgeq.formats.coreml.executor import Interface, load, read_interface
from edgeq.formats.coreml.executor.schema import messages


class Backend(ABC):
    """One open package.

    interface: its inputs, outputs and states. runtime: name and version of the runtime. threads:
    maximum per run. is_reference: whether it stands in for Core ML.
    """

    interface: Interface
    runtime: str
    threads: int
    is_reference: bool

    @abstractmethod
    def predict(self, inputs: Mapping[str, Array], state: Any = None) -> dict[str, Any]:
        """Run the package once on arrays of allowed shapes; returns arrays by output name.

        state: from `make_state`, if the package has states; it is changed. Raises InvalidInput if
        the run fails.
        """

    @abstractmethod
    def make_state(self) -> Any:
        """The state of a stateful package between runs, all zeros."""

    def facts(self) -> dict[str, Any]:
        """Facts for a latency pass in addition to times; see `edgeq.formats.base.Model.facts`."""
        return {}


def runs_here() -> bool:
    """Whether this system has Core ML."""
    return sys.platform == "darwin"


def import_runtime() -> None:
    """Load the library that executes packages. Raises Missing without coremltools."""
    messages()
    if runs_here():
        load_coremltools()


class ReferenceBackend(Backend):
    """`edgeq.formats.coreml.executor` instead of Core ML: the file's numbers, slowly.

    By default on one thread. Sums are then computed in the same order on every machine, and small
    products, most of a step, lose more by waiting than they gain: on two busy cores one thread was
    four times as fast as two.
    """

    is_reference = True

    def __init__(self, path: Path, threads: int) -> None:
        self.interface = read_interface(path)
        self._libraries = ThreadpoolController()
        self._program = load(path)
        self.threads = threads
        self.runtime = f"edgeq's executor for ML Programs (numpy {np.__version__}), a reference"

    def predict(self, inputs: Mapping[str, Array], state: Any = None) -> dict[str, Any]:
        """See `Backend.predict`."""
        with self._libraries.limit(limits=self.threads):
            return self._program.predict(inputs, state)

    def make_state(self) -> Any:
        """See `Backend.make_state`."""
        return self._program.make_state()
