"""Errors of estimates, evaluated on chips that the fit did not know."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.estimate.calibrate import Measured, correct
from edgeq.estimate.fitting import DecodeFit
from edgeq.estimate.kinds import backend_kind, group
from edgeq.estimate.prompt import PromptFit
from edgeq.estimate.table import Point

_TAIL = 0.05
# the tails of n chips are widened by this many n-ths: the next may be more unusual
_FEW_CHIPS = 4.0
_PAIRS = 40


@dataclass(frozen=True)
class Miss:
    """An estimate compared with the truth. log_ratio: log(true speed / estimated speed)."""

    point: Point
    log_ratio: float

    @property
    def error(self) -> float:
        """|estimated speed / true speed − 1|, a fraction of one."""
        return abs(math.exp(-self.log_ratio) - 1)


def decode_misses(points: Sequence[Point], fits: Mapping[str, DecodeFit]) -> list[Miss]:
    """Every point, estimated by the fit that did not know its chip."""
    return [
        Miss(
            point,
            math.log(
                point.decode
                * fits[point.chip].seconds(
                    point.bytes, point.bandwidth, backend_kind(point.backend), point.quant
                )
            ),
        )
        for point in points
    ]


def prompt_misses(points: Sequence[Point], fits: Mapping[str, PromptFit]) -> list[Miss]:
    """Every prompt speed, estimated by the fit that did not know its chip."""
    found = []
    for point in points:
        if point.prompt is None:
            continue
        kind = backend_kind(point.backend)
        estimate = fits[point.chip].speed(point.parameters, point.bandwidth, kind)
        found.append(Miss(point, math.log(point.prompt / estimate)))
    return found


def calibrated_misses(points: Sequence[Point], fits: Mapping[str, DecodeFit]) -> list[Miss]:
    """Every point of a device, from pairs of its other points and a fit that did not know its chip.

    A device here is one machine in one source. Pairs have two sizes; if there are many, an even
    selection.
    """
    devices: dict[tuple[str, str, str, float, str], list[Point]] = {}
    for point in points:
        series = point.source if "discussions" in point.source else "other"
        key = (point.chip, point.units, point.backend, point.bandwidth, series)
        devices.setdefault(key, []).append(point)
    found = []
    for (chip, _, backend, bandwidth, _), own in devices.items():
        pairs = [pair for pair in itertools.combinations(own, 2) if pair[0].bytes != pair[1].bytes]
        for pair in pairs[:: max(1, len(pairs) // _PAIRS)]:
            given = [Measured(p.bytes, p.quant, p.decode) for p in pair]
            kind = backend_kind(backend)
            fixed = correct(fits[chip], given, bandwidth, kind)
            for point in own:
                if point not in pair:
                    estimate = fixed.seconds(fits[chip], point.bytes, bandwidth, kind, point.quant)
                    found.append(Miss(point, math.log(point.decode * estimate)))
    return found


def range_of(misses: Iterable[Miss]) -> tuple[float, float]:
    """The 90 % range of log(true / estimated), every chip weighted equally."""
    covered = list(misses)
    chips = [miss.point.chip for miss in covered]
    weights = np.array([1 / chips.count(chip) for chip in chips])
    values = np.array([miss.log_ratio for miss in covered])
    order = np.argsort(values)
    rank = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    low, high = np.interp([_TAIL, 1 - _TAIL], rank, values[order])
    wider = 1 + _FEW_CHIPS / len(set(chips))
    return min(float(low * wider), 0.0), max(float(high * wider), 0.0)


def ranges(misses: Sequence[Miss], fewest: int = 3) -> dict[str, tuple[float, float]]:
    """`range_of` each group with `fewest` chips or more, of each kind of backend, and of `all`."""
    found = {"all": range_of(misses)}
    names = {group(m.point.backend, m.point.quant) for m in misses}
    for name in sorted(names | {name.split()[0] for name in names}):
        own = [
            miss
            for miss in misses
            if name in (both := group(miss.point.backend, miss.point.quant), both.split()[0])
        ]
        if len({miss.point.chip for miss in own}) >= fewest:
            found[name] = range_of(own)
    return found
