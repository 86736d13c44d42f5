"""Fit decode speed to published figures: few parameters, and limited influence of any chip.

Time per token is a roofline with two terms: reading the weights, and work that does not shrink with
a faster memory (starting kernels, synchronising, attention), which grows with the model:

t = ((a·k·bytes/bandwidth)^p + (c·(parameters/6.74e9)^g)^p)^(1/p)

a, c: per kind of backend, near common values. k: per family of formats on it. p = 1 adds both
times; above that, a part of the fixed work overlaps with reading. Every chip may differ from the
formula by a factor of its own, so that 30 rows of one machine do not count as 30 machines;
residuals are weighted by a robust loss. All of it is least squares on logarithms, by Gauss-Newton.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import Frozen
from edgeq.estimate.kinds import Backend, Family, backend_kind, bits_per_weight, family
from edgeq.estimate.table import Point

_REFERENCE_PARAMETERS = 6.74e9
_OVERLAP = 1.2
# Standard deviations of the logarithm: of a row, and of the priors.
_NOISE = 0.04
_BACKEND_READING, _BACKEND_FIXED = 0.3, 0.5
_FAMILY, _CHIP, _GROWTH = 0.05, 0.08, 0.15
_ROBUST_FROM = 1.5  # residuals beyond this many deviations have decreasing influence
_START_READING, _START_FIXED, _START_GROWTH = math.log(1.15), math.log(5e-3), 0.5

_Floats = npt.NDArray[np.float64]


class DecodeFit(Frozen):
    """The parameters of the formula: logarithms of a, c (seconds) and k, and the exponents p and g.

    reading, fixed: common to all backends. of_backend: (reading, fixed) added to them. of_family:
    log k by backend and family, zero if there is none.
    """

    overlap: float
    growth: float
    reading: float
    fixed: float
    of_backend: dict[str, tuple[float, float]]
    of_family: dict[str, dict[str, float]]

    def seconds(
        self, bytes_per_token: float, bandwidth: float, backend: Backend, quant: str
    ) -> float:
        """Time per token: grows with the bytes (B), falls with the bandwidth (B/s)."""
        reading, fixed = self.terms(bytes_per_token, bandwidth, backend, quant)
        return together(reading, fixed, self.overlap)

    def terms(
        self, bytes_per_token: float, bandwidth: float, backend: Backend, quant: str
    ) -> tuple[float, float]:
        """Seconds of reading and of fixed work, before they overlap."""
        reading, fixed = self.of_backend.get(backend, (0.0, 0.0))
        kernel = self.of_family.get(backend, {}).get(family(quant), 0.0)
        parameters = bytes_per_token * 8 / bits_per_weight(quant)
        return (
            math.exp(self.reading + reading + kernel) * bytes_per_token / bandwidth,
            math.exp(self.fixed + fixed) * (parameters / _REFERENCE_PARAMETERS) ** self.growth,
        )


def together(reading: float, fixed: float, overlap: float) -> float:
    """The combined time when a part of the shorter overlaps with the longer."""
    greatest = max(reading, fixed)
    shares = (reading / greatest) ** overlap + (fixed / greatest) ** overlap
    return float(greatest * shares ** (1 / overlap))


@dataclass(frozen=True)
class _Layout:
    """Indices of the unknowns: 3 common ones, 2 per backend, families, chips."""

    backends: list[Backend]
    families: list[tuple[Backend, Family]]
    chips: list[tuple[str, Backend]]

    @property
    def size(self) -> int:
        return 3 + 2 * len(self.backends) + len(self.families) + len(self.chips)

    def deviations(self) -> _Floats:
        """The prior standard deviation of each unknown."""
        return np.array(
            [1.0, 1.0, _GROWTH]
            + [_BACKEND_READING] * len(self.backends)
            + [_BACKEND_FIXED] * len(self.backends)
            + [_FAMILY] * len(self.families)
            + [_CHIP] * len(self.chips)
        )


class _Problem:
    """The rows as arrays, and the residuals that `fit` minimizes."""

    def __init__(self, points: Sequence[Point]) -> None:
        kinds = [backend_kind(point.backend) for point in points]
        kernels = [(kind, family(p.quant)) for kind, p in zip(kinds, points, strict=True)]
        chips = [(p.chip, kind) for kind, p in zip(kinds, points, strict=True)]
        self.layout = _Layout(
            sorted(set(kinds)),
            sorted({kernel for kernel in kernels if kernel[1] != "flat"}),
            sorted(set(chips)),
        )
        backends, families = self.layout.backends, self.layout.families
        first_family = 3 + 2 * len(backends)
        self._reading = np.array([3 + backends.index(kind) for kind in kinds])
        self._fixed = self._reading + len(backends)
        self._kernel = np.array(
            [first_family + families.index(k) if k in families else -1 for k in kernels]
        )
        first_chip = first_family + len(families)
        self._chip = np.array([first_chip + self.layout.chips.index(chip) for chip in chips])
        self._ideal = np.log([p.bytes / p.bandwidth for p in points])
        bits = np.array([bits_per_weight(p.quant) for p in points])
        bytes_ = np.array([p.bytes for p in points])
        self._size = np.log(bytes_ * 8 / bits / _REFERENCE_PARAMETERS)
        self._seen = -np.log([p.decode for p in points])
        # Many rows of one format on one chip share its peculiarities.
        alike = [(*chip, point.quant) for chip, point in zip(chips, points, strict=True)]
        counts = Counter(alike)
        doubt = np.array([0.5 if point.note else 1.0 for point in points])
        self._weights = doubt / np.sqrt([counts[key] for key in alike]) / _NOISE
        self._expected = np.zeros(self.layout.size)
        self._expected[:3] = _START_READING, _START_FIXED, _START_GROWTH
        self._deviations = self.layout.deviations()
        self.robust = np.ones(len(points) + self.layout.size, bool)
        self.robust[len(points) : len(points) + first_chip] = False

    def start(self) -> _Floats:
        return self._expected.copy()

    def residuals(self, unknown: _Floats) -> _Floats:
        kernel = np.where(self._kernel >= 0, unknown[self._kernel], 0.0)
        reading = unknown[0] + unknown[self._reading] + kernel + self._ideal
        fixed = unknown[1] + unknown[self._fixed] + unknown[2] * self._size
        both = np.logaddexp(_OVERLAP * reading, _OVERLAP * fixed) / _OVERLAP
        rows = (both + unknown[self._chip] - self._seen) * self._weights
        return np.concatenate([rows, (unknown - self._expected) / self._deviations])

    def result(self, unknown: _Floats) -> DecodeFit:
        backends, families = self.layout.backends, self.layout.families
        count = len(backends)
        kernels: dict[str, dict[str, float]] = {}
        for index, (kind, kernel) in enumerate(families):
            kernels.setdefault(kind, {})[kernel] = float(unknown[3 + 2 * count + index])
        return DecodeFit(
            overlap=_OVERLAP,
            growth=float(unknown[2]),
            reading=float(unknown[0]),
            fixed=float(unknown[1]),
            of_backend={
                kind: (float(unknown[3 + index]), float(unknown[3 + count + index]))
                for index, kind in enumerate(backends)
            },
            of_family=kernels,
        )


def fit(points: Sequence[Point]) -> DecodeFit:
    """The parameters that best fit `points`, of which there is at least one."""
    problem = _Problem(points)
    unknown = problem.start()
    for _ in range(60):
        found = problem.residuals(unknown)
        pull = np.where(problem.robust, (1 + (found / _ROBUST_FROM) ** 2) ** -0.25, 1.0)
        slopes = np.empty((len(found), len(unknown)))
        for index in range(len(unknown)):
            moved = unknown.copy()
            moved[index] += 1e-5
            slopes[:, index] = (problem.residuals(moved) - found) / 1e-5
        step, *_ = np.linalg.lstsq(slopes * pull[:, None], -found * pull, rcond=None)
        unknown += np.clip(step, -0.5, 0.5)
        if np.abs(step).max() < 1e-6:
            break
    return problem.result(unknown)


def without_each_chip(points: Sequence[Point]) -> Mapping[str, DecodeFit]:
    """Map each chip to the fit of all other chips' points, as if nobody had measured it."""
    chips = sorted({point.chip for point in points})
    return {chip: fit([p for p in points if p.chip != chip]) for chip in chips}
