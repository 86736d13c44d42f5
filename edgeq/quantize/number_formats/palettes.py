"""Palettes: a weight is an index into a short table of values that its tensor, or a group of its
rows, shares. The only kind of four- and six-bit weight that Apple's Neural Engine reads as it is.

The table is what one-dimensional k-means finds, with each value counted by the importance of the
input that it multiplies (Han, Mao, Dally, "Deep Compression", 2015, arXiv:1510.00149, section 3,
without the retraining).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.number_formats.groups import Codes, Floats, Grid, QuantizedTensor

Doubles = NDArray[np.float64]

_ROUNDS = 100  # at most; most tables settle in twenty
_BINS = 512


@dataclass(frozen=True)
class Palette(Grid):
    """Tables of `2 ** bits` values; in a QuantizedTensor codes are indices, scales the tables.

    rows: how many neighbouring rows share a table, None for all. Codes are int8 `(rows, columns)`
    from 0 to `2 ** bits - 1`, scales float32 `(groups, 2 ** bits)`, rising.
    """

    rows: int | None = None

    @property
    def lowest(self) -> int:
        """Smallest index."""
        return 0

    @property
    def highest(self) -> int:
        """Largest index."""
        return (1 << self.bits) - 1

    def groups(self, rows: int) -> int:
        """How many tables a weight of `rows` rows has."""
        return 1 if self.rows is None else -(-rows // self.rows)

    def scale_count(self, rows: int, columns: int) -> int:
        """How many values the tables of a `(rows, columns)` weight have."""
        return self.groups(rows) * (1 << self.bits)

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of packed indices and tables of a `(rows, columns)` weight."""
        tables = self.scale_count(rows, columns) * np.dtype(self.scale_dtype).itemsize
        return -(-rows * columns * self.bits // 8) + tables

    def decode(self, codes: Codes, scales: Floats) -> Floats:
        """The values that indices stand for, float32 `(rows, columns)`."""
        group = np.arange(len(codes)) // (self.rows or len(codes))
        values: Floats = scales[group[:, None], codes]
        return values


PALETTE4 = Palette("palette4", 4, None, np.float16)
PALETTE6 = Palette("palette6", 6, None, np.float16)
PALETTE4_G16 = Palette("palette4-g16", 4, None, np.float16, rows=16)
PALETTE6_G16 = Palette("palette6-g16", 6, None, np.float16, rows=16)
PALETTES = {grid.name: grid for grid in (PALETTE4, PALETTE6, PALETTE4_G16, PALETTE6_G16)}


def cluster(weight: Floats, grid: Palette, importance: Floats | None = None) -> QuantizedTensor:
    """Tables of the values that leave the least (importance-weighted) squared error, and indices.

    weight: float32 `(rows, columns)`. importance: float32 `(columns,)`, e.g. the mean square of
    each input, or None for equal weights.
    """
    size = grid.rows or len(weight)
    tables, codes = [], []
    counts = np.ones(weight.shape[1]) if importance is None else importance.astype(np.float64)
    for start in range(0, len(weight), size):
        piece = weight[start : start + size]
        table = _table(piece, np.broadcast_to(counts, piece.shape), 1 << grid.bits)
        tables.append(table)
        edges = (table[1:] + table[:-1]) / 2
        codes.append(np.searchsorted(edges, piece).astype(np.int8))
    return QuantizedTensor(grid, np.concatenate(codes), np.stack(tables), "kmeans")


def _table(values: Floats, counts: NDArray[np.float64], size: int) -> Floats:
    """float32 `(size,)` that float16 holds, rising.

    Values are first rounded to float16, where the table must live: a tensor then has some ten
    thousand different ones, however large it is, and Lloyd's steps cost nothing.
    """
    held, place = np.unique(values.astype(np.float16), return_inverse=True)
    points = held.astype(np.float64)
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


def pack(codes: Codes, bits: int) -> NDArray[np.uint8]:
    """Indices one after the other, lowest bit first, uint8 `(bytes,)`: the layout of iOS 16."""
    flat = codes.astype(np.uint8).reshape(-1, 1)
    spread = np.unpackbits(flat, axis=1, count=bits, bitorder="little")
    return np.packbits(spread.reshape(-1), bitorder="little")
