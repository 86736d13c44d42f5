"""What rounding one layer is judged by: the change of its output on the inputs it will see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.grids import Floats

Doubles = NDArray[np.float64]

_ROWS_PER_PRODUCT = 2048  # one short sample's few rows would be all overhead


@dataclass(frozen=True)
class Moments:
    """Second moments of a layer's inputs: x in the float model, x̂ in the one being rounded.

    seen: float64 `(columns, columns)`, mean of `x̂ x̂ᵀ`. cross: mean of `x x̂ᵀ`, or None where the
    layers before are not rounded, so that both inputs are the same. beside: float64
    `(rows, columns)`, mean of `(r − r̂) x̂ᵀ` where the output is added to a tensor r that has lost
    something too, and the sum is what counts; None where there is none.
    """

    seen: Doubles
    cross: Doubles | None = None
    beside: Doubles | None = None

    @property
    def power(self) -> Floats:
        """Mean square of each input, float32 `(columns,)`."""
        return np.diag(self.seen).astype(np.float32)

    def as_if_whole(self) -> Moments:
        """The same inputs, as if nothing before had been lost."""
        return Moments(self.seen)

    def missed(self, weight: Floats) -> Doubles | None:
        """What the float weight leaves wrong: mean of `(W x + r − W x̂ − r̂) x̂ᵀ`."""
        if self.cross is None:
            return None
        missed = weight @ (self.cross - self.seen)
        return missed if self.beside is None else missed + self.beside

    def error(self, weight: Floats, rounded: Floats) -> float:
        """Mean of `‖W x + r − Ŵ x̂ − r̂‖²`, less what `W` itself leaves; to compare by."""
        change = rounded - weight
        missed = self.missed(weight)
        pulled = change @ self.seen - (0 if missed is None else 2 * missed)
        return float((pulled * change).sum())


class MomentSums:
    """Moments while samples come in."""

    def __init__(self) -> None:
        self._pending: list[tuple[Floats, Floats, Floats | None]] = []
        self._sums: dict[str, Doubles] = {}
        self._count = 0

    def add(self, wanted: Floats, seen: Floats, missing: Floats | None = None) -> None:
        """Inputs of one sample in both models, float32 `(rows, columns)`; missing is `r − r̂`."""
        self._count += len(seen)
        self._pending.append((wanted, seen, missing))
        if sum(len(rows) for rows, _, _ in self._pending) >= _ROWS_PER_PRODUCT:
            self._multiply()

    def result(self) -> Moments | None:
        """Moments of all rows; None if there were none."""
        if self._pending:
            self._multiply()
        if not self._count:
            return None
        return Moments(**{name: total / self._count for name, total in self._sums.items()})

    def _multiply(self) -> None:
        wanted, seen, missing = zip(*self._pending, strict=True)
        self._pending.clear()
        right = np.concatenate(seen)
        self._add("seen", right, right)
        self._add("cross", np.concatenate(wanted), right)
        if missing[0] is not None:
            self._add("beside", np.concatenate(missing), right)

    def _add(self, name: str, left: Floats, right: Floats) -> None:
        product = (left.T @ right).astype(np.float64)
        self._sums[name] = self._sums[name] + product if name in self._sums else product


@dataclass(frozen=True)
class Objective:
    """The quadratic that methods make small: `tr((W − Ŵ) H (W − Ŵ)ᵀ)`.

    weight: float32 `(rows, columns)`, what to aim at. hessian: float64 `(columns, columns)`,
    positive definite.
    """

    weight: Floats
    hessian: Doubles


def objective(weight: Floats, moments: Moments, damping: float) -> Objective:
    """The quadratic of `moments`, completed to a square.

    With λ, a share `damping` of the mean input power, it is about
    `W + mean((W x + r − W x̂ − r̂) x̂ᵀ) (H + λ)⁻¹`: the weight that is best on rounded inputs, held
    near `W`. (The asymmetric objective of Li et al., "GPTAQ", 2025, arXiv:2504.02692; that sums
    with what passes by are aimed at is ours.)
    """
    power = np.diag(moments.seen)
    mean = float(power.mean())
    damped = moments.seen + np.eye(len(power)) * (damping * mean if mean > 0 else 1.0)
    missed = moments.missed(weight)
    if missed is None:
        return Objective(weight, damped)
    moved = weight + np.linalg.solve(damped, missed.T).T
    return Objective(moved.astype(np.float32), damped)
