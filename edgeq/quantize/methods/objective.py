"""The objective of rounding one layer: the change of its output on its actual inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.number_formats.base import Floats

_ROWS_PER_PRODUCT = 2048  # a product for one short sample's few rows would be all overhead
_SMALLEST_HALF = 64
_FACTOR_BYTES = 1 << 28  # of one tensor's moments, kept for the next weight that multiplies it


def row_blocks(rows: int, at_once: int) -> list[slice]:
    """Slices of at most `at_once` that cover `rows`, of about the same length."""
    count = -(-rows // at_once)
    ends = [rows * index // count for index in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


class Damped:
    """`H = seen + λ`, positive definite, and its inverse taken apart.

    order: of the columns, the largest power first. upper: the Cholesky factor of the inverse in
    that order, so that `H⁻¹ = upperᵀ upper`.
    """

    def __init__(self, seen: Floats, damping: float) -> None:
        mean = float(np.trace(seen)) / len(seen)
        self._seen = seen
        self._added = np.float32(damping * mean if mean > 0 else 1.0)
        self.order: NDArray[np.intp] = np.argsort(-np.diag(seen), kind="stable")
        self.upper = self._inverse_factor()

    @cached_property
    def hessian(self) -> Floats:
        """float32 `(columns, columns)`."""
        damped = self._seen.copy()
        damped.flat[:: len(damped) + 1] += self._added
        return damped

    def times_inverse(self, rows: Floats) -> Floats:
        """`rows H⁻¹`."""
        found = np.empty_like(rows)
        found[:, self.order] = (rows[:, self.order] @ self.upper.T) @ self.upper
        return found

    def _inverse_factor(self) -> Floats:
        """The inverse of the lower factor of H taken from its last row and column on."""
        backwards = self.order[::-1]
        reverse = self._seen[np.ix_(backwards, backwards)]
        reverse.flat[:: len(reverse) + 1] += self._added
        _invert_factor(reverse)
        return np.ascontiguousarray(reverse[::-1, ::-1])


def _invert_factor(matrix: Floats) -> None:
    """Put the inverse of its lower Cholesky factor in a matrix's place.

    By halves, so that products do nearly all the work: LAPACK's factorization through numpy takes
    six times as long for 3072 columns.
    """
    size = len(matrix)
    if size <= _SMALLEST_HALF:
        matrix[:] = np.tril(np.linalg.inv(np.linalg.cholesky(matrix)))
        return
    half = size // 2
    first, last, between = matrix[:half, :half], matrix[half:, half:], matrix[half:, :half]
    _invert_factor(first)
    lower = between @ first.T
    last -= lower @ lower.T
    _invert_factor(last)
    between[:] = -(last @ (lower @ first))
    matrix[:half, half:] = 0


class Factors:
    """What is made of one matrix of moments, for all weights that multiply the same tensor.

    chosen: the damping that was best for the first of them; None before.
    """

    def __init__(self, seen: Floats, room: int = _FACTOR_BYTES) -> None:
        self._seen, self._room = seen, room
        self.chosen: float | None = None
        self._kept: dict[float, Damped] = {}

    def damped(self, damping: float) -> Damped:
        """With a share of the mean input power on the diagonal; made once if there is room."""
        found = self._kept.pop(damping, None) or Damped(self._seen, damping)
        while self._kept and (len(self._kept) + 1) * self._seen.nbytes > self._room:
            del self._kept[next(iter(self._kept))]
        self._kept[damping] = found
        return found


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
    shared: Factors | None = field(default=None, repr=False, compare=False)

    @cached_property
    def factors(self) -> Factors:
        """The factors of `seen`; `shared` with moments that differ only in the rest."""
        return self.shared or Factors(self.seen)

    @property
    def power(self) -> Floats:
        """Mean square of each input, float32 `(columns,)`."""
        return np.diag(self.seen).copy()

    def as_if_whole(self) -> Moments:
        """The same inputs, as if earlier layers had no error."""
        return Moments(self.seen, shared=self.factors)

    def of_rows(self, rows: slice) -> Moments:
        """The same, for some rows of a weight."""
        residual = None if self.residual is None else self.residual[rows]
        return Moments(self.seen, self.drift, residual, self.factors)

    def missed(self, weight: Floats) -> Floats | None:
        """The error that the float weight leaves: mean of `(W x + r − W x̂ − r̂) x̂ᵀ`."""
        if self.drift is None:
            return None
        missed = weight @ self.drift
        if self.residual is not None:
            missed += self.residual
        return missed

    def error(self, weight: Floats, rounded: Floats) -> float:
        """`judge` for a single weight."""
        return self.judge(weight)(rounded)

    def judge(self, weight: Floats) -> Callable[[Floats], float]:
        """A function of Ŵ: the mean of `‖W x + r − Ŵ x̂ − r̂‖²`, minus that of `W` itself."""
        missed = self.missed(weight)

        def error(rounded: Floats) -> float:
            change = rounded - weight
            pulled = change @ self.seen
            if missed is not None:
                pulled -= 2 * missed
            pulled *= change
            return float(pulled.sum(dtype=np.float64))

        return error


class MomentSums:
    """Moments while samples come in."""

    def __init__(self) -> None:
        self._pending: list[tuple[Floats | None, Floats, Floats | None]] = []
        self._sums: dict[str, Floats] = {}
        self._count = 0

    def add(self, wanted: Floats | None, seen: Floats, missing: Floats | None = None) -> None:
        """Inputs of one sample in both models, float32 `(rows, columns)`; missing is `r − r̂`.

        wanted: None for every sample if the two models' rows do not correspond.
        """
        self._count += len(seen)
        self._pending.append((wanted, seen, missing))
        if sum(len(rows) for _, rows, _ in self._pending) >= _ROWS_PER_PRODUCT:
            self._multiply()

    def result(self) -> Moments | None:
        """Moments of all rows; None if there were none. To be called once, at the end."""
        if self._pending:
            self._multiply()
        if not self._count:
            return None
        for total in self._sums.values():
            total /= np.float32(self._count)
        return Moments(self._sums["seen"], self._sums.get("drift"), self._sums.get("residual"))

    def _multiply(self) -> None:
        wanted, seen, missing = zip(*self._pending, strict=True)
        self._pending.clear()
        right = np.concatenate(seen)
        self._add("seen", right, right)
        meant = [rows for rows in wanted if rows is not None]
        if meant:
            self._add("drift", np.concatenate(meant) - right, right)
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

    weight: float32 `(rows, columns)`, the target. damped: H and its inverse.
    """

    weight: Floats
    damped: Damped

    @property
    def hessian(self) -> Floats:
        """float32 `(columns, columns)`, positive definite."""
        return self.damped.hessian


def objective(weight: Floats, moments: Moments, damping: float) -> Objective:
    """The quadratic of `moments`, completed to a square.

    With λ, a share `damping` of the mean input power, it is about `W + mean((W x + r − W x̂ − r̂)
    x̂ᵀ) (H + λ)⁻¹`: the weight that is best on rounded inputs, kept near `W`. (The asymmetric
    objective of Li et al., "GPTAQ", 2025, arXiv:2504.02692; the residual term is ours.)
    """
    damped = moments.factors.damped(damping)
    missed = moments.missed(weight)
    aim = weight if missed is None else weight + damped.times_inverse(missed)
    return Objective(aim, damped)
