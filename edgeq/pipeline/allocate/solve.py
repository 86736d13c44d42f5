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
    flat = [option for options in kept.values() for option in options]
    values = {
        "loss": np.array([option.loss for option in flat], np.float64),
        "bytes": np.array([option.bytes for option in flat], np.float64),
    }
    rows, at = [], 0
    one = np.zeros((len(kept), len(flat)))
    for row, options in enumerate(kept.values()):
        one[row, at : at + len(options)] = 1
        at += len(options)
    rows.append(LinearConstraint(csr_matrix(one), 1, 1))
    for name, limit in limits.items():
        # Tolerances are absolute, so rows are scaled to the size of their limit.
        unit = max(abs(limit), 1e-300)
        rows.append(LinearConstraint(csr_matrix(values[name] / unit), -np.inf, limit / unit))
    goal = values[minimise]
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
