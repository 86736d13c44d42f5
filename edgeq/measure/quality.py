"""Distance of a model's outputs from the full-precision model's, gathered sample by sample."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.measure.records import OutputQuality

Array = npt.NDArray[Any]
_LOW_SHARE = 0.01


class NotComparable(Exception):
    """Two outputs that no distance can be given for: other shapes, or values that are no numbers"""


class OutputComparison:
    """Takes one output of both models sample by sample; nothing but sums is kept.

    `logits` says whether rows of at least two floats are to be read as scores of classes.
    """

    def __init__(self, name: str, *, logits: bool) -> None:
        self._name = name
        self._logits = logits
        self._samples = 0
        self._cosines: list[float] = []
        self._squared_difference = self._squared_reference = self._largest = 0.0
        self._rows = self._agreeing = 0

    def add(self, output: Array, reference: Array) -> None:
        """One sample: `reference` is full precision, both of the same shape.

        Raises NotComparable if the shapes differ or one holds NaN or infinity where the other
        does not.
        """
        where = f"output {self._name!r} of sample {self._samples}"
        self._samples += 1
        if output.shape != reference.shape:
            raise NotComparable(f"{where} is {output.shape}, full precision {reference.shape}")
        if output.size == 0:
            return
        if self._logits and _looks_like_logits(reference):
            self._rows += len(reference)
            self._agreeing += int((output.argmax(1) == reference.argmax(1)).sum())
        a, b = _finite(output, reference, where)
        self._cosines.append(cosine(a, b))
        difference = a - b
        self._squared_difference += float(difference @ difference)
        self._squared_reference += float(b @ b)
        self._largest = max(self._largest, float(np.abs(difference).max()))

    def result(self) -> OutputQuality | None:
        """The distances; None if every sample was empty."""
        if not self._cosines:
            return None
        ordered = sorted(self._cosines)
        return OutputQuality(
            samples=len(ordered),
            cosine_mean=math.fsum(ordered) / len(ordered),
            cosine_low=ordered[max(1, math.ceil(len(ordered) * _LOW_SHARE)) - 1],
            cosine_min=ordered[0],
            relative_rms_error=self._relative_error(),
            max_absolute_error=self._largest,
            top1_agreement=self._agreeing / self._rows if self._rows else None,
        )

    def _relative_error(self) -> float | None:
        if self._squared_difference == 0:
            return 0.0
        if self._squared_reference == 0:
            return None
        return math.sqrt(self._squared_difference / self._squared_reference)


def compare(
    names: Sequence[str], outputs: Iterable[Array], references: Iterable[Array], *, logits: bool
) -> dict[str, OutputQuality]:
    """The distances of all outputs, by name, leaving out those that are always empty.

    `outputs` and `references` give every output of a sample in the order of `names`, sample after
    sample. Raises NotComparable as `OutputComparison.add` does.
    """
    comparisons = {name: OutputComparison(name, logits=logits) for name in names}
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
    """Cosine of two vectors, in [−1, 1]; two zero vectors are alike (1), one is not (0)."""
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
    half = len(scores)
    likeness = [cosine(vectors[i], vectors[half + i]) for i in range(half)]
    return spearman(likeness, scores)
