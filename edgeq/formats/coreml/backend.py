"""What executes a Core ML package: Core ML on macOS, elsewhere edgeq's executor as a reference."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import missing_extra
from edgeq.formats.base import Array
from edgeq.formats.coreml.coremltools import load_coremltools
from edgeq.formats.coreml.executor import Interface, load, read_interface
from edgeq.formats.coreml.executor.schema import messages


class Backend(ABC):
    """One open package.

    interface: what it takes, gives and remembers. runtime: name and version of what executes it.
    threads: how many one run may use. is_reference: whether that stands in for Core ML.
    """

    interface: Interface
    runtime: str
    threads: int
    is_reference: bool

    @abstractmethod
    def predict(self, inputs: Mapping[str, Array], state: Any = None) -> dict[str, Any]:
        """Run the package once on arrays of allowed shapes; arrays by name of the output.

        state: what `make_state` gave, where the package has states; it is changed. Raises
        InvalidInput where the run fails.
        """

    @abstractmethod
    def make_state(self) -> Any:
        """What a stateful package remembers between runs, all zeros."""

    def facts(self) -> dict[str, Any]:
        """What besides times a latency pass reports; see `edgeq.formats.base.Model.facts`."""
        return {}


def runs_here() -> bool:
    """Whether this system has Core ML."""
    return sys.platform == "darwin"


def import_runtime() -> None:
    """Have what executes packages in memory. Raises Missing without coremltools."""
    messages()
    if runs_here():
        load_coremltools()


class ReferenceBackend(Backend):
    """`edgeq.formats.coreml.executor` in place of Core ML: the file's numbers, slowly.

    By default on one thread. Sums are then taken in one order wherever there are more, and small
    products, which most of a step are, lose more by waiting than they gain: on two busy cores one
    thread was four times as fast as two.
    """

    is_reference = True

    def __init__(self, path: Path, threads: int) -> None:
        self.interface = read_interface(path)
        try:
            from threadpoolctl import ThreadpoolController
        except ImportError:
            raise missing_extra("threadpoolctl", "coreml", "run Core ML packages") from None
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
