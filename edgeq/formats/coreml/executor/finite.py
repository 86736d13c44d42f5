"""Locate NaN and infinity: overflows of fp16, by operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.formats.coreml.executor.executor import Evaluated, Program, State


@dataclass(frozen=True)
class NotFinite:
    """An operator that produces NaN or infinity from inputs without any.

    `inputs` gives the lowest and highest value of each input, by parameter; `count` of the `of`
    values of `output` are affected.
    """

    operator: str
    kind: str
    output: str
    makes: Literal["NaN", "infinity"]
    count: int
    of: int
    inputs: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        ranges = ", ".join(
            f"{name} {low:g} to {high:g}" for name, (low, high) in self.inputs.items()
        )
        return (
            f"operator {self.kind} named {self.operator!r} makes {self.makes} in {self.count} of "
            f"{self.of} values of {self.output!r}; inputs: {ranges}"
        )


def scan(
    program: Program,
    inputs: Mapping[str, npt.ArrayLike],
    state: State | None = None,
    *,
    function: str | None = None,
) -> list[NotFinite]:
    """Run a program once and report every operator where a NaN or an infinity begins, in order.

    Consequences of a reported one are not reported, nor an infinity that comes from a constant: a
    mask of −∞ is intended. A wrong effect of such a mask (0 · −∞) is a NaN and is reported. Raises
    what `Program.predict` raises.
    """
    found: list[NotFinite] = []
    caused: set[str] = set()

    def look(seen: Evaluated) -> None:
        operation = seen.operation
        follows = not caused.isdisjoint(operation.names())
        begun = [] if follows else _begun(seen)
        found.extend(begun)
        if begun or follows:
            pairs = zip(operation.outputs, seen.outputs, strict=True)
            caused.update(named.name for named, value in pairs if not _is_finite(value))
        if follows and operation.kind == "write_state":
            caused.add(seen.inputs["input"])

    program.predict(inputs, state, function=function, watch=look)
    return found


def _begun(seen: Evaluated) -> list[NotFinite]:
    arrays = dict(_floats(seen.inputs))
    had_nan = any(np.isnan(array).any() for array in arrays.values())
    had_infinity = had_nan or any(np.isinf(array).any() for array in arrays.values())
    operation, found = seen.operation, []
    for named, value in zip(operation.outputs, seen.outputs, strict=True):
        if _is_finite(value):
            continue
        counts: list[tuple[Literal["NaN", "infinity"], int]] = []
        if not had_nan:
            counts.append(("NaN", int(np.isnan(value).sum())))
        if not had_infinity:
            counts.append(("infinity", int(np.isinf(value).sum())))
        ranges = {name: _range(array) for name, array in arrays.items()}
        found += [
            NotFinite(operation.name, operation.kind, named.name, makes, n, value.size, ranges)
            for makes, n in counts
            if n
        ]
    return found


def _floats(inputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in inputs.items():
        if isinstance(value, list):
            flat += [(f"{name}[{i}]", item) for i, item in enumerate(value)]
        else:
            flat.append((name, value))
    return [(name, value) for name, value in flat if _is_float(value) and value.size]


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _is_finite(value: Any) -> bool:
    return not _is_float(value) or bool(np.isfinite(value).all())


def _range(array: Any) -> tuple[float, float]:
    """Lowest and highest value that are not NaN."""
    if np.isnan(array).all():
        return float("nan"), float("nan")
    return float(np.nanmin(array)), float(np.nanmax(array))
