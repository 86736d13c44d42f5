"""Operators by their name in MIL.

An operator is a function of numpy arrays whose parameters have the names and defaults of MIL's own
(operator documentation of coremltools, iOS 15 to 18). Floats come as float32, whatever width the
program declares, and so may be returned: who calls it rounds the result to the declared type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from edgeq.formats.coreml.executor.types import Array

Outputs = tuple[Array, ...]
Function = TypeVar("Function", bound=Callable[..., Any])

OPERATORS: dict[str, Callable[..., Any]] = {}
"""Each operator's function, which returns an Array, or Outputs if it has several."""

MOVES: set[str] = set()
"""Operators that only move values: what goes in has been rounded, so what comes out is."""


def operator(*names: str, moves: bool = False) -> Callable[[Function], Function]:
    """Register a function as the operators `names`."""

    def register(function: Function) -> Function:
        for name in names:
            OPERATORS[name] = function
        if moves:
            MOVES.update(names)
        return function

    return register
