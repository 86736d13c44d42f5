"""Estimate prompt speed: bound by arithmetic, which profiles do not state.

Bandwidth is used as a proxy, since chips with wider memories have more units too: tokens/s ×
parameters = work · (bandwidth / 100 GB/s)^growth. The interval shows how rough that is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.core.artifact import Frozen
from edgeq.estimate.kinds import Backend, backend_kind
from edgeq.estimate.table import Point

_REFERENCE_BANDWIDTH = 100e9
_BACKEND, _GROWTH, _ROW = 0.8, 0.3, 0.3  # deviations of logarithms; growth is near 1


class PromptFit(Frozen):
    """log(tokens/s × parameters) at 100 GB/s, a backend's addition to it, the exponent."""

    work: float
    growth: float
    of_backend: dict[str, float]

    def speed(self, parameters: float, bandwidth: float, backend: Backend) -> float:
        """Tokens/s of a prompt of some hundred tokens."""
        work = self.work + self.of_backend.get(backend, 0.0)
        scale: float = (bandwidth / _REFERENCE_BANDWIDTH) ** self.growth
        return math.exp(work) * scale / parameters


def fit_prompt(points: Sequence[Point]) -> PromptFit:
    """The parameters that best fit the points with a prompt speed, every chip weighted equally."""
    rows = [point for point in points if point.prompt is not None]
    kinds = [backend_kind(point.backend) for point in rows]
    backends = sorted(set(kinds))
    chips = [point.chip for point in rows]
    design = np.zeros((len(rows) + 1 + len(backends), 2 + len(backends)))
    wanted = np.zeros(len(design))
    for index, (point, kind) in enumerate(zip(rows, kinds, strict=True)):
        weight = chips.count(point.chip) ** -0.5 / _ROW
        ratio = math.log(point.bandwidth / _REFERENCE_BANDWIDTH)
        design[index, [0, 1, 2 + backends.index(kind)]] = np.array([1, ratio, 1]) * weight
        wanted[index] = math.log((point.prompt or 0) * point.parameters) * weight
    design[len(rows), 1] = wanted[len(rows)] = 1 / _GROWTH
    design[len(rows) + 1 :, 2:] = np.eye(len(backends)) / _BACKEND
    found, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    offsets = dict(zip(map(str, backends), map(float, found[2:]), strict=True))
    return PromptFit(work=float(found[0]), growth=float(found[1]), of_backend=offsets)


def prompt_without_each_chip(points: Sequence[Point]) -> Mapping[str, PromptFit]:
    """Map each chip to the fit of all other chips' points."""
    chips = {point.chip for point in points if point.prompt is not None}
    return {chip: fit_prompt([p for p in points if p.chip != chip]) for chip in sorted(chips)}
