"""Choose the backend for a Core ML package on this system."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.validation_messages import suggest
from edgeq.devices.compute_units import ComputeUnits
from edgeq.formats.coreml.backend import Backend, ReferenceBackend, runs_here


def open_backend(path: Path, threads: int | None, compute_units: str | None) -> Backend:
    """Open the package at `path` with this system's backend; threads apply only to the reference.

    Raises InvalidInput for invalid units and for a package that cannot be run, Missing if
    coremltools is not installed.
    """
    units = compute_units or "all"
    if units not in get_args(ComputeUnits):
        what = f"{units!r} are not compute units"
        raise InvalidInput(Problem("compute_units", what, suggest(units, get_args(ComputeUnits))))
    if runs_here():
        from edgeq.formats.coreml.apple import AppleBackend

        return AppleBackend(path, units)
    return ReferenceBackend(path, threads or 1)
