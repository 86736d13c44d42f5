"""Core ML packages read and executed on any system: a reference for the numbers in the file.

Only numpy and the protobuf classes that ship with coremltools are used: nothing of coremltools'
converter takes part, so what wrote a package and what reads it are not the same code.

>>> from edgeq.formats.coreml.executor import load
>>> program = load("model.mlpackage")  # doctest: +SKIP
>>> state = program.make_state()  # doctest: +SKIP
>>> program.predict({"input_ids": [[1]]}, state)["logits"]  # doctest: +SKIP
"""

from __future__ import annotations

from edgeq.formats.coreml.executor.executor import Evaluated, Precision, Program, State, load
from edgeq.formats.coreml.executor.finite import NotFinite, scan
from edgeq.formats.coreml.executor.interface import Input, Interface, read_interface

__all__ = [
    "Evaluated",
    "Input",
    "Interface",
    "NotFinite",
    "Precision",
    "Program",
    "State",
    "load",
    "read_interface",
    "scan",
]
