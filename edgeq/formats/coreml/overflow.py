"""Detect values beyond float16 by running a package, with the setting that fixes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.coreml.executor import Evaluated, NotFinite, Program, load, scan

Call = Mapping[str, npt.ArrayLike]

_LARGE = 60_000.0  # float16 ends at 65504; intermediate rounding may add a little
_SHOWN = 4  # operators whose ranges are listed; the others are counted
_PATTERNS = 8  # with more than that, one setting for the whole program is simpler


def refuse_overflow(
    package: Path,
    texts: Sequence[Sequence[Call]],
    where: str = "coreml.float32",
    already: Sequence[str] = (),
    own: Callable[[], Container[str]] = tuple,
) -> None:
    """Run a package on some inputs and raise InvalidInput if NaN or infinity begins anywhere.

    texts: consecutive calls, with one state for all of them, starting empty. where: the place in
    the recipe for the fix. already: the patterns already there. own: operators that make them in
    the model itself, as a root of negative numbers that a mask then leaves out.

    The fix lists every operator with an input or output beyond float16, to be computed in float32,
    so that fixing one does not only move the overflow to the next.
    """
    found = not_finite(load(package), texts)
    if found:
        intended = own()
        found = {name: each for name, each in found.items() if name not in intended}
    if not found:
        return
    names = dict.fromkeys(name for name, each in found.items() if each.kind != "cast")
    names |= dict.fromkeys(_beyond(load(package, "float32"), texts))
    patterns = [*already, *_patterns(list(names))]
    quoted = ", ".join(f'"{pattern}"' for pattern in patterns)
    remedy = f"compute in float32 what float16 cannot hold: coreml: {{float32: [{quoted}]}}"
    if len(patterns) > _PATTERNS:
        remedy += f"; or, as {len(names)} operators need it, all: coreml: {{compute: float32}}"
    lines = [str(each) for each in found.values()][:_SHOWN]
    if len(found) > _SHOWN:
        lines.append(f"NaN or infinity begins in {len(found) - _SHOWN} more operators")
    *others, last = lines
    raise InvalidInput([*(Problem(where, what) for what in others), Problem(where, last, remedy)])


def not_finite(program: Program, texts: Sequence[Sequence[Call]]) -> dict[str, NotFinite]:
    """Every operator where a NaN or an infinity begins, by name."""
    found: dict[str, NotFinite] = {}
    for calls in texts:
        state = program.make_state()
        for inputs in calls:
            seen = scan(program, inputs, state)
            for each in seen:
                found.setdefault(each.operator, each)
            if seen:
                break  # later operators read damaged values
    return found


def _beyond(program: Program, texts: Sequence[Sequence[Call]]) -> Iterator[str]:
    """Names of operators, in order, with an input or output beyond float16."""
    names: dict[str, None] = {}

    def look(seen: Evaluated) -> None:
        values = [*_arrays(seen.inputs.values()), *_arrays(seen.outputs)]
        if seen.operation.kind != "cast" and any(_is_beyond(value) for value in values):
            names.setdefault(seen.operation.name)

    for calls in texts:
        state = program.make_state()
        for inputs in calls:
            program.predict(inputs, state, watch=look)
    yield from names


def _arrays(values: Any) -> Iterator[npt.NDArray[Any]]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _arrays(value)
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
            yield value


def _is_beyond(value: npt.NDArray[Any]) -> bool:
    return bool(np.abs(value).max() > _LARGE)


def _patterns(names: Sequence[str]) -> list[str]:
    """The fewest patterns that match all of `names`: operators in several layers share one.

    >>> _patterns(["layer_0_add", "layer_1_add", "head"])
    ['layer_*_add', 'head']
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    return [key if len(group) > 1 else group[0] for key, group in alike.items()]
