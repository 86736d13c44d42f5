"""The objective of rounding one layer: the change of its output on its actual inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from edgeq.quantize.number_formats.base import Floats

_ROWS_PER_PRODUCT = 2048  # a product for one short sample's few rows would be all overhead


@dataclass(frozen=True)
class Moments:
    """Second moments of a layer's inputs: x in the float model, x̂ in the one being rounded.

    seen: float32 `(columns, columns)`, mean of `x̂ x̂ᵀ`. drift: mean of `(x − x̂) x̂ᵀ`, or None if
    the layers before are not rounded, so that both inputs are the same. residual: float32 `(rows,
    columns)`, mean of `(r − r̂) x̂ᵀ` if the output is added to a tensor r that has an error too,
    since the sum is what matters; None otherwise.
    """

    seen: Floats
    drift: Floats | None = None
    residual: Floats | None = None

    @property
    def power(self) -> Floats:
        """Mean square of each input, float32 `(columns,)`."""
        return np.diag(self.seen).copy()

    def as_if_whole(self) -> Moments:
        """The same inputs, as if earlier layers had no error."""
        return Moments(self.seen)

    def of_rows(self, rows: slice) -> Moments:
        """The same, for some rows of a weight."""
        residual = None if self.residual is None else self.residual[rows]
        return Moments(self.seen, self.drift, residual)

    def missed(self, weight: Floats) -> Floats | None:
        """The error that the float weight leaves: mean of `(W x + r − W x̂ − r̂) x̂ᵀ`."""
        if self.drift is None:
            return None
        missed = weight @ self.drift
        if self.residual is not None:
            missed += self.residual
        return missed

    def error(self, weight: Floats, rounded: Floats) -> float:
        """`errors` for a single weight."""
        return next(self.errors(weight, [rounded]))

    def errors(self, weight: Floats, rounded: Iterable[Floats]) -> Iterator[float]:
        """Means of `‖W x + r − Ŵ x̂ − r̂‖²`, minus the error that `W` itself leaves; for
        comparisons."""
        missed = self.missed(weight)
        for each in rounded:
            change = each - weight
            pulled = change @ self.seen
            if missed is not None:
                pulled -= 2 * missed
            pulled *= change
            yield float(pulled.sum(dtype=np.float64))


class MomentSums:
    """Moments while samples come in."""

    def __init__(self) -> None:
        self._pending: list[tuple[Floats, Floats, Floats | None]] = []
        self._sums: dict[str, Floats] = {}
        self._count = 0

    def add(self, wanted: Floats, seen: Floats, missing: Floats | None = None) -> None:
        """Inputs of one sample in both models, float32 `(rows, columns)`; missing is `r − r̂`."""
        self._count += len(seen)
        self._pending.append((wanted, seen, missing))
        if sum(len(rows) for rows, _, _ in self._pending) >= _ROWS_PER_PRODUCT:
            self._multiply()

    def result(self) -> Moments | None:
        """Moments of all rows; None if there were none. To be called once, at the end."""
        if self._pending:
            self._multiply()
        if not self._count:
            return None
        for total in self._sums.values():
            total /= np.float32(self._count)
        return Moments(**self._sums)

    def _multiply(self) -> None:
        wanted, seen, missing = zip(*self._pending, strict=True)
        self._pending.clear()
        right = np.concatenate(seen)
        self._add("seen", right, right)
        self._add("drift", np.concatenate(wanted) - right, right)
        if missing[0] is not None:
            self._add("residual", np.concatenate(missing), right)

    def _add(self, name: str, left: Floats, right: Floats) -> None:
        product = left.T @ right
        if name in self._sums:
            self._sums[name] += product
        else:
            self._sums[name] = product


@dataclass(frozen=True)
class Objective:
    """The quadratic that methods minimize: `tr((W − Ŵ) H (W − Ŵ)ᵀ)`.

    weight: float32 `(rows, columns)`, the target. hessian: float32 `(columns, columns)`,
    positive definite.
    """

    weight: Floats
    hessian: Floats


def objective(weight: Floats, moments: Moments, damping: float) -> Objective:
    """The quadratic of `moments`, completed to a square.

    With λ, a share `damping` of the mean input power, it is about `W + mean((W x + r − W x̂ − r̂)
    x̂ᵀ) (H + λ)⁻¹`: the weight that is best on rounded inputs, kept near `W`. (The asymmetric
    objective of Li et al., "GPTAQ", 2025, arXiv:2504.02692; the residual term is ours.)
    """
    mean = float(np.trace(moments.seen)) / len(moments.seen)
    damped = moments.seen.copy()
    damped.flat[:: len(damped) + 1] += np.float32(damping * mean if mean > 0 else 1.0)
    missed = moments.missed(weight)
    if missed is None:
        return Objective(weight, damped)
    return Objective(weight + np.linalg.solve(damped, missed.T).T, damped)
