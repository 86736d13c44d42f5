"""Distance of a model's outputs from the full-precision model's, collected sample by sample."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.measure.intervals import (
    Bounds,
    effective_count,
    ratio_bounds,
    resampled_bounds,
    share_bounds,
)
from edgeq.measure.records import OutputQuality

Array = npt.NDArray[Any]
_LOW_SHARE = 0.01


class NotComparable(Exception):
    """Two outputs without a distance: their shapes differ, or values are not numbers."""


@dataclass
class _Sample:
    """Sums over one output of a sample, or of several samples with the same reference."""

    count: int = 0
    cosine: float = 0.0
    squared_difference: float = 0.0
    squared_reference: float = 0.0
    rows: int = 0
    agreeing: int = 0


class OutputComparison:
    """Takes one output of both models sample by sample and keeps a few numbers per sample.

    `logits`: whether rows of at least two floats are interpreted as class scores. `may_vary`:
    whether the number of answers depends on them, as of boxes that a model chooses itself: samples
    of another shape have no distance then.
    """

    def __init__(self, name: str, *, logits: bool, may_vary: bool = False) -> None:
        self._name = name
        self._may_vary = may_vary
        self._logits = logits
        self._samples = 0
        self._cosines: list[float] = []
        self._largest = 0.0
        self._distinct: dict[bytes, _Sample] = {}

    def add(self, output: Array, reference: Array) -> None:
        """Add one sample: `reference` is full precision, both of the same shape.

        Raises NotComparable if the shapes differ or one holds NaN or infinity where the other does
        not.
        """
        where = f"output {self._name!r} of sample {self._samples}"
        self._samples += 1
        if output.shape != reference.shape:
            if self._may_vary:
                return
            raise NotComparable(f"{where} is {output.shape}, full precision {reference.shape}")
        if output.size == 0:
            return
        sums = self._distinct.setdefault(self._key(reference), _Sample())
        if self._logits and _looks_like_logits(reference):
            sums.rows += len(reference)
            sums.agreeing += int((output.argmax(1) == reference.argmax(1)).sum())
        a, b = _finite(output, reference, where)
        self._cosines.append(cosine(a, b))
        difference = a - b
        sums.count += 1
        sums.cosine += self._cosines[-1]
        sums.squared_difference += float(difference @ difference)
        sums.squared_reference += float(b @ b)
        self._largest = max(self._largest, float(np.abs(difference).max()))

    def _key(self, reference: Array) -> bytes:
        """Equal for repeated samples; a few integers may be equal by chance."""
        if np.issubdtype(reference.dtype, np.floating):
            return hashlib.sha256(np.ascontiguousarray(reference).tobytes()).digest()
        return str(self._samples).encode()

    def result(self) -> OutputQuality | None:
        """The distances with their intervals; None if every sample was empty."""
        if not self._cosines:
            return None
        ordered = sorted(self._cosines)
        counts, rows, agreeing = self._sums("count"), self._sums("rows"), self._sums("agreeing")
        share = float(agreeing.sum() / rows.sum()) if rows.any() else None
        error, error_bounds = self._relative_error()
        return OutputQuality(
            samples=len(ordered),
            distinct=len(counts),
            cosine_mean=math.fsum(ordered) / len(ordered),
            cosine_mean_bounds=_at_most_one(ratio_bounds(self._sums("cosine"), counts)),
            cosine_low=ordered[max(1, math.ceil(len(ordered) * _LOW_SHARE)) - 1],
            cosine_min=ordered[0],
            relative_rms_error=error,
            relative_rms_error_bounds=error_bounds,
            max_absolute_error=self._largest,
            top1_agreement=share,
            top1_bounds=None if share is None else _agreement_bounds(share, agreeing, rows),
        )

    def _sums(self, name: str) -> npt.NDArray[np.float64]:
        return np.array([getattr(sums, name) for sums in self._distinct.values()], np.float64)

    def _relative_error(self) -> tuple[float | None, Bounds | None]:
        differences, references = self._sums("squared_difference"), self._sums("squared_reference")
        if not differences.any():
            bounds = ratio_bounds(differences, np.ones(len(differences)))
            return 0.0, bounds
        if not references.any():
            return None, None
        square = ratio_bounds(differences, references)
        root = math.sqrt(math.fsum(differences) / math.fsum(references))
        if square is None:
            return root, None
        return root, Bounds(low=math.sqrt(max(0.0, square.low)), high=math.sqrt(square.high))


def _at_most_one(bounds: Bounds | None) -> Bounds | None:
    return bounds and Bounds(low=min(1.0, bounds.low), high=min(1.0, bounds.high))


def _agreement_bounds(
    share: float, agreeing: npt.NDArray[np.float64], rows: npt.NDArray[np.float64]
) -> Bounds:
    """Rows of one sample are similar: they count as their equivalent number of independent rows."""
    residuals = agreeing - share * rows
    count = len(rows)
    error = math.sqrt(count / max(1, count - 1) * float(residuals @ residuals)) / rows.sum()
    return share_bounds(share, min(effective_count(share, error, int(rows.sum())), rows.sum()))


def compare(
    names: Sequence[str],
    outputs: Iterable[Array],
    references: Iterable[Array],
    *,
    logits: bool,
    may_vary: bool = False,
) -> dict[str, OutputQuality]:
    """The distances of all outputs, by name, without those that are always empty.

    `outputs` and `references` give every output of a sample in the order of `names`, sample after
    sample. Raises NotComparable as `OutputComparison.add` does.
    """
    comparisons = {name: OutputComparison(name, logits=logits, may_vary=may_vary) for name in names}
    turns = itertools.cycle(comparisons.values())
    for output, reference in zip(outputs, references, strict=True):
        next(turns).add(output, reference)
    results = {name: comparison.result() for name, comparison in comparisons.items()}
    return {name: result for name, result in results.items() if result is not None}


def _looks_like_logits(array: Array) -> bool:
    return array.ndim == 2 and array.shape[1] > 1 and np.issubdtype(array.dtype, np.floating)


def _finite(output: Array, reference: Array, where: str) -> tuple[Array, Array]:
    """Both flat in float64; an infinity or NaN at the same place in both counts as equal."""
    a, b = output.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    odd = ~(np.isfinite(a) & np.isfinite(b))
    if odd.any():
        if not np.array_equal(a[odd], b[odd], equal_nan=True):
            raise NotComparable(f"{where} holds NaN or infinity where full precision does not")
        a[odd] = b[odd] = 0
    return a, b


def cosine(a: Array, b: Array) -> float:
    """Cosine of two vectors, in [−1, 1]; 1 for two zero vectors, 0 if one is zero."""
    # Scaled first: squares of large values overflow, those of tiny ones vanish.
    largest_a, largest_b = float(np.abs(a).max()), float(np.abs(b).max())
    if largest_a == 0 or largest_b == 0:
        return 1.0 if largest_a == largest_b else 0.0
    x, y = a / largest_a, b / largest_b
    product = float(x @ y) / math.sqrt(float(x @ x) * float(y @ y))
    return min(1.0, max(-1.0, product))


def ranks(values: Sequence[float] | Array) -> npt.NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: npt.NDArray[np.float64] = (last - (counts - 1) / 2)[inverse.ravel()]
    return shared


def spearman(a: Sequence[float] | Array, b: Sequence[float] | Array) -> float | None:
    """Spearman's correlation × 100 with ties: Pearson's of the ranks; None if one is constant."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    if not x.any() or not y.any():
        return None
    return 100 * cosine(x, y)


def pair_spearman(vectors: Array, scores: Sequence[float]) -> float | None:
    """Spearman × 100 of `scores` with the cosine of each pair.

    `vectors` is (2 × pairs, dimension): all first texts, then all second ones.
    """
    return spearman(_likeness(vectors, len(scores)), scores)


def pair_spearman_bounds(vectors: Array, scores: Sequence[float]) -> Bounds | None:
    """The interval of `pair_spearman`, pairs resampled."""
    likeness, given = np.array(_likeness(vectors, len(scores))), np.array(scores)
    return resampled_bounds(len(scores), lambda drawn: spearman(likeness[drawn], given[drawn]))


def _likeness(vectors: Array, half: int) -> list[float]:
    return [cosine(vectors[i], vectors[half + i]) for i in range(half)]
