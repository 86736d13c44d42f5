"""Core ML itself, through coremltools' bridge on macOS.

NOT RUN: it was written without a Mac. The tests run it with a stand-in for coremltools' `MLModel`,
`CompiledMLModel` and `MLComputePlan`, which only macOS has; the behaviour of the real ones is taken
from coremltools 9.0's sources and documentation.
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeq.core.errors import NotComputed, Problem
from edgeq.formats.base import Array
from edgeq.formats.coreml.backend import Backend
from edgeq.formats.coreml.coremltools import load_coremltools
from edgeq.formats.coreml.executor import read_interface

_UNITS = {
    "MLCPUComputeDevice": "cpu",
    "MLGPUComputeDevice": "gpu",
    "MLNeuralEngineComputeDevice": "npu",
}


class AppleBackend(Backend):
    """A package that Core ML compiled and loaded, for some of its compute units."""

    is_reference = False

    def __init__(self, path: Path, units: str) -> None:
        """units: one of `ComputeUnits`. Raises NotComputed with Core ML's reason if it fails."""
        tools = load_coremltools(whole=True)
        self.interface = read_interface(path)
        self._path, self._tools, self._name = path, tools, units
        self._units = tools.ComputeUnit[units.upper()]
        with warnings.catch_warnings(record=True) as caught:  # the attribute with the reason
            warnings.simplefilter("always")
            self._model = tools.models.MLModel(str(path), compute_units=self._units)
        try:
            self._compiled = self._model.get_compiled_model_path()
        except Exception as error:  # coremltools raises nothing more precise
            said = [*(str(warning.message) for warning in caught), str(error)]
            what = f"Core ML cannot open it: {' '.join(said[0].split())}"
            remedy = (
                "check which release of macOS it is for: settings.deployment_target in its record"
            )
            raise NotComputed(Problem(str(path), what, remedy)) from None
        # Core ML chooses the number of threads and does not report it
        self.threads = os.cpu_count() or 1
        release = platform.mac_ver()[0]
        self.runtime = (
            f"Core ML of macOS {release}, compute units {units} (coremltools {tools.__version__})"
        )

    def predict(self, inputs: Mapping[str, Array], state: Any = None) -> dict[str, Any]:
        """See `Backend.predict`."""
        try:
            answer: dict[str, Any] = self._model.predict(dict(inputs), state)
        except Exception as error:  # the framework's errors come as RuntimeError, and others
            raise NotComputed(Problem(str(self._path), f"Core ML stopped: {error}")) from error
        return answer

    def make_state(self) -> Any:
        """See `Backend.make_state`; macOS 15 and later."""
        return self._model.make_state()

    def facts(self) -> dict[str, Any]:
        """The time to load the compiled model again, and where operators run."""
        start = time.perf_counter()
        self._tools.models.CompiledMLModel(self._compiled, compute_units=self._units)
        again = time.perf_counter() - start
        return {"compiled_load_seconds": again, "placement": self._placement()}

    def _placement(self) -> dict[str, Any]:
        """Core ML's compute plan, as `edgeq.measure.records.Placement` without its conditions."""
        from coremltools.models.compute_plan import MLComputePlan

        plan = MLComputePlan.load_from_path(self._compiled, compute_units=self._units)
        function = plan.model_structure.program.functions["main"]
        counts = dict.fromkeys(_UNITS.values(), 0)
        costs = dict.fromkeys(_UNITS.values(), 0.0)
        for operation in _operations(function.block):
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is None:  # a constant: nothing runs
                continue
            unit = _UNITS[type(usage.preferred_compute_device).__name__]
            cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
            counts[unit] += 1
            costs[unit] += cost.weight if cost is not None else 0.0
        total, weight = sum(counts.values()), sum(costs.values())
        return {
            "compute_units": self._name,
            "operators": total,
            "share": {unit: n / total if total else 0.0 for unit, n in counts.items()},
            "cost": {unit: c / weight for unit, c in costs.items()} if weight else None,
        }


def _operations(block: Any) -> Iterator[Any]:
    """Every operator of a block, including those of nested blocks."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)
