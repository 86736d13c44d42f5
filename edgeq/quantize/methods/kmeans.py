"""Tables of values by one-dimensional k-means.

Each value is weighted by the importance of its input (Han, Mao, Dally, "Deep Compression", 2015,
arXiv:1510.00149, section 3, without the retraining).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.methods.base import RoundingMethod, Statistics
from edgeq.quantize.number_formats.base import Floats, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.palettes import Palette

Doubles = NDArray[np.float64]

_ROUNDS = 100  # at most; most tables settle in twenty
_BINS = 512


class KMeans(RoundingMethod):
    """The table with the least (importance-weighted) squared error, and the nearest entries."""

    name = "kmeans"
    title = "a palette"
    summary = (
        "Weights become entries of a small table of values chosen for them, as a GIF "
        "file chooses its colours."
    )
    source = (
        "Core ML Tools, Palettization, https://apple.github.io/coremltools/docs-guides/source/"
        "opt-palettization-overview.html"
    )
    reads = "power"

    def rounds_onto(self, number_format: NumberFormat) -> bool:
        """Palettes only."""
        return isinstance(number_format, Palette)

    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        """Without statistics, all columns count the same."""
        assert isinstance(number_format, Palette)
        return cluster(weight, number_format, statistics.power if statistics else None)


KMEANS = KMeans()


def cluster(weight: Floats, palette: Palette, importance: Floats | None = None) -> QuantizedTensor:
    """Tables of values with the least (importance-weighted) squared error, and indices.

    weight: float32 `(rows, columns)`. importance: float32 `(columns,)`, e.g. the mean square of
    each input, or None for equal weights.
    """
    size = palette.rows or len(weight)
    tables = []
    counts = np.ones(weight.shape[1]) if importance is None else importance.astype(np.float64)
    for start in range(0, len(weight), size):
        piece = weight[start : start + size]
        table = _table(piece, np.broadcast_to(counts, piece.shape), 1 << palette.bits)
        tables.append(table)
    scales = np.stack(tables)
    return QuantizedTensor(palette, palette.encode(weight, scales), scales, KMEANS.name)


def _table(values: Floats, counts: NDArray[np.float64], size: int) -> Floats:
    """float32 `(size,)`, exact in float16, ascending.

    Values are first rounded to float16, where the table must live: a tensor then has some ten
    thousand different ones, however large it is, and Lloyd's steps cost nothing.
    """
    distinct, place = np.unique(values.astype(np.float16), return_inverse=True)
    points = distinct.astype(np.float64)
    if len(points) <= size:
        return np.pad(points, (0, size - len(points)), mode="edge").astype(np.float32)
    mass = np.bincount(place.reshape(-1), counts.reshape(-1), len(points))
    mass = np.maximum(mass, mass.max(initial=1.0) * 1e-12)  # unimportant values count a little
    before, moment, _ = _sums(points, mass)
    centres = _start(points, mass, size)
    for _ in range(_ROUNDS):
        edges = np.searchsorted(points, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(points)]])
        inside = before[edges[1:]] - before[edges[:-1]]
        sums = moment[edges[1:]] - moment[edges[:-1]]
        moved = np.where(inside > 0, sums / np.where(inside > 0, inside, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.sort(centres).astype(np.float16).astype(np.float32)


def _start(points: Doubles, mass: Doubles, size: int) -> Doubles:
    """Where Lloyd's steps begin, float64 `(size,)`: the best there is for a coarser picture.

    Values are put into bins, as narrow as the best tables are dense there: the cube root of the
    values' density (Bennett, 1948). For so few, dynamic programming finds the very best table.
    """
    gaps = np.gradient(points)
    share = np.cumsum(np.cbrt(mass / gaps) * gaps)
    bins = np.minimum((share / share[-1] * _BINS).astype(int), _BINS - 1)
    firsts = np.flatnonzero(np.diff(bins, prepend=-1))
    edges = np.append(firsts, len(points))
    before, moment, square = (total[edges] for total in _sums(points, mass))
    weight = before - before[:, None]  # [i, j]: of the bins from i to before j
    sums = moment - moment[:, None]
    spread = square - square[:, None] - np.square(sums) / np.where(weight > 0, weight, 1)
    cost = np.where(weight > 0, spread, np.inf)
    count = min(size, len(firsts))
    least, froms = cost[0], []
    for _ in range(count - 1):
        total = least[:, None] + cost
        froms.append(total.argmin(0))
        least = total.min(0)
    ends = [len(firsts)]
    for came in froms[::-1]:
        ends.append(int(came[ends[-1]]))
    borders = np.array([0, *ends[::-1]])
    found = np.diff(moment[borders]) / np.diff(before[borders])
    return np.pad(found, (0, size - count), mode="edge")


def _sums(points: Doubles, mass: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Mass, moment and second moment of what comes before each point, and of all."""
    found = (np.concatenate([[0.0], np.cumsum(mass * points**power)]) for power in range(3))
    zero, one, two = found
    return zero, one, two
