"""The exact optimum over all tensors under an additive model.

A multiple-choice knapsack: one option per tensor, losses and bytes add up. It is solved as an
integer program by HiGHS (Huangfu and Hall, 2018), through scipy, to a gap of zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

_TOLERANCE = 1e-6  # tolerance of HiGHS's integers, by which a row may be exceeded
_SECONDS = 60.0  # seconds; models of a thousand tensors take less than one


@dataclass(frozen=True)
class Priced:
    """An option of a tensor. loss: its share of the whole model's. bytes: in the file."""

    use: str
    loss: float
    bytes: int


Choices = Mapping[str, Sequence[Priced]]


class Infeasible(Exception):
    """No choice keeps the bounds."""


def best_within(choices: Choices, bytes: int) -> dict[str, Priced]:
    """The least loss in at most `bytes`. Raises Infeasible."""
    return _solve(choices, minimise="loss", limits={"bytes": _whole(bytes)})


def smallest_within(choices: Choices, loss: float, bytes: int | None = None) -> dict[str, Priced]:
    """The fewest bytes with at most `loss`, and at most `bytes`. Raises Infeasible."""
    limits = {"loss": loss, **({} if bytes is None else {"bytes": _whole(bytes)})}
    return _solve(choices, minimise="bytes", limits=limits)


def total(chosen: Mapping[str, Priced]) -> tuple[float, int]:
    """Loss and bytes of all together."""
    return (
        math.fsum(option.loss for option in chosen.values()),
        sum(option.bytes for option in chosen.values()),
    )


def _whole(bytes: int) -> float:
    """A limit low enough that a row exceeding it by the tolerance stays within `bytes`."""
    return bytes + 0.5 - _TOLERANCE * bytes


def _solve(choices: Choices, minimise: str, limits: Mapping[str, float]) -> dict[str, Priced]:
    kept = {name: _undominated(options) for name, options in choices.items()}
    for name, limit in limits.items():
        kept = _fitting(kept, name, limit)
    room = {name: _room(kept, name, limit) for name, limit in limits.items()}
    flat = [option for options in kept.values() for option in options]
    counts = [len(options) for options in kept.values()]
    more = {
        name: np.array([getattr(option, name) for option in flat], np.float64)
        - np.repeat(np.array(_least(kept, name), np.float64), counts)
        for name in ("loss", "bytes")
    }
    ends = np.cumsum([0, *counts])
    one = csr_matrix((np.ones(len(flat)), np.arange(len(flat)), ends), (len(kept), len(flat)))
    rows = [LinearConstraint(one, 1, 1)]
    for name, left in room.items():
        # Tolerances are absolute, so rows are scaled to the size of their limit.
        unit = max(left, 1e-300)
        rows.append(LinearConstraint(csr_matrix(more[name] / unit), -np.inf, left / unit))
    goal = more[minimise]
    found = milp(
        goal / max(float(goal.max()), 1e-300) * 1e6,
        constraints=rows,
        integrality=np.ones(len(flat)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0, "time_limit": _SECONDS},
    )
    if found.x is None:
        raise Infeasible
    return _picked(kept, found.x)


def _least(choices: Choices, name: str) -> list[float]:
    """The least loss, or bytes, of each tensor."""
    return [min(getattr(option, name) for option in options) for options in choices.values()]


def _room(choices: Choices, name: str, limit: float) -> float:
    """What a limit leaves beyond the least of every tensor. Raises Infeasible."""
    left = limit - math.fsum(_least(choices, name))
    if left < -1e-12 * abs(limit):  # more than sums in float64 are off by
        raise Infeasible
    return max(left, 0.0)


def _fitting(choices: Choices, name: str, limit: float) -> dict[str, list[Priced]]:
    """Options that fit if every other tensor takes its least.

    Larger ones would be out of all proportion to a row's limit, where a solver goes wrong.
    """
    left = _room(choices, name, limit)
    least = dict(zip(choices, _least(choices, name), strict=True))
    return {
        tensor: [option for option in options if getattr(option, name) - least[tensor] <= left]
        for tensor, options in choices.items()
    }


def _picked(kept: Choices, x: NDArray[np.float64]) -> dict[str, Priced]:
    picked, at = {}, 0
    for name, options in kept.items():
        picked[name] = options[int(np.argmax(x[at : at + len(options)]))]
        at += len(options)
    return picked


def _undominated(options: Sequence[Priced]) -> list[Priced]:
    """Options that no other beats in both bytes and loss; dropping the rest keeps the optimum."""
    found: list[Priced] = []
    for option in sorted(options, key=lambda each: (each.bytes, each.loss)):
        if not found or option.loss < found[-1].loss:
            found.append(option)
    return found
