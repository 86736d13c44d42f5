"""How the inputs of a matrix product become 8-bit codes: ranges, smoothing, outlier channels.

Per-tensor activation codes lose most if a few channels are far larger than the rest, as after the
layer norms and activations of transformers. Two remedies, each applied only if it removes most of
the remaining error, because each costs time:

- SmoothQuant (Xiao et al., 2022, arXiv:2211.10438, eq. 4) divides channel j by `s_j = peak_j^α /
weight_peak_j^(1-α)` and multiplies the weights by it. α is searched.

- A few outlier channels are multiplied in float in addition to the integer product, after
LLM.int8() (Dettmers et al., 2022, arXiv:2208.07339), but chosen once, from calibration.

Error is summed row by row, relative to the row's own output: some transformers answer a separator
token with an output a hundred times larger than any other, which would dominate a sum over all rows
while every other token is ruined (and the norm after it divides that size away again).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgeq.quantize.number_formats import Floats
from edgeq.quantize.number_formats.integers import INT8
from edgeq.quantize.statistics import InputStatistics

_STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# A more expensive kind must leave at most this fraction of the error to be worth its time: on
# MiniLM,
# from here up the quality gained is within the noise of the task score, and the time is not.
_WORTH_AN_OPERATOR = 0.25
# On a text recognizer, cutting off for any gain differs in 7 % of the letters, this in 4 %.
_WORTH_CLIPPING = 0.5
_OUTLIERS = 2
_RANGE_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_ROWS_FOR_CHOICE = 1024
_LEAST_NORM = 0.01  # fraction of the median: rows with almost no output do not decide
_PERCENTILES = (0.001, 99.999)
_LEVELS = 255


@dataclass(frozen=True)
class InputCodes:
    """How one tensor becomes uint8 codes.

    smoothing: float32 `(columns,)` to divide by beforehand, or None. outliers: columns that are
    multiplied in float and excluded from the codes. low, high: the static range after smoothing
    (None for dynamic ranges). error and plain_error: mean over calibration rows of the output's
    squared error relative to its squared norm, with these codes and with the best codes that need
    no additional operator.
    """

    smoothing: Floats | None
    outliers: tuple[int, ...]
    low: float | None
    high: float | None
    error: float
    plain_error: float


def choose_dynamic(statistics: InputStatistics, weight: Floats) -> InputCodes:
    """Codes for ranges taken from each input at run time.

    weight: float32 `(rows, columns)`, of every product that reads this tensor, stacked by rows.
    """

    def dynamic_codes(multiplier: Floats) -> Iterator[tuple[float, float, Floats]]:
        scaled = [sample * multiplier for sample in _few_rows(statistics.samples)]
        coded = [_code(sample, *_hull(sample, sample)) for sample in scaled]
        yield 0.0, 0.0, np.concatenate(coded)

    codes = _choose(statistics, weight, dynamic_codes, outliers_cost=weight.shape[1])
    return replace(codes, low=None, high=None)


def choose_static(statistics: InputStatistics, weight: Floats, ranges: str) -> InputCodes:
    """Codes for a fixed range; `ranges` is minmax, percentile, entropy or error."""

    def static_codes(multiplier: Floats) -> Iterator[tuple[float, float, Floats]]:
        few = np.concatenate(_few_rows(statistics.samples)) * multiplier
        for low, high in _candidate_ranges(statistics, multiplier, ranges):
            yield low, high, _code(few, low, high)

    return _choose(statistics, weight, static_codes, outliers_cost=0)


def static_range(statistics: InputStatistics, ranges: str) -> tuple[float, float]:
    """A fixed range for a tensor that is not the input of a product: the one with least error.

    Values are clipped only where that removes most of the error: the few largest decide more of
    what a net of convolutions answers than their share of the squares says.
    """
    rows = statistics.rows
    candidates = _candidate_ranges(statistics, np.ones(rows.shape[1], np.float32), ranges)
    errors = [float(np.square(_code(rows, *each) - rows).sum()) for each in candidates]
    best = int(np.argmin(errors))
    return candidates[best if errors[best] < _WORTH_CLIPPING * errors[0] else 0]


def scale_and_zero_point(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """uint8 parameters of the range [low, high], widened to include zero.

    `value ≈ scale × (code - zero_point)`; zero is exact, so padding stays zero.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / _LEVELS)
    if scale < np.finfo(np.float32).tiny:  # only zeros, to float32's precision
        scale = np.float32(1)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, _LEVELS))


_Coder = Callable[[Floats], Iterator[tuple[float, float, Floats]]]


def _choose(
    statistics: InputStatistics, weight: Floats, coder: _Coder, outliers_cost: int
) -> InputCodes:
    """The best codes of each kind, in order of cost; a more expensive one only if it is worth it.

    coder: gives ranges and coded rows for a multiplier per column. outliers_cost: additional values
    to be read, per row, to keep outliers out of a dynamic range.
    """
    rows = np.concatenate(_few_rows(statistics.samples))
    wanted = rows @ weight.T
    norms = np.square(wanted).sum(1)
    norms = np.maximum(norms, max(float(np.median(norms)) * _LEAST_NORM, 1e-12))

    def best_of(outliers: tuple[int, ...], smoothings: Iterable[Floats | None]) -> InputCodes:
        missing = wanted - rows[:, outliers] @ weight[:, outliers].T
        found = _candidates(weight, coder, outliers, smoothings, missing, norms)
        return min(found, key=lambda codes: codes.error)

    peak = np.maximum(np.abs(statistics.low), np.abs(statistics.high))
    largest = tuple(sorted(int(j) for j in np.argsort(-peak, kind="stable")[:_OUTLIERS]))
    weight_peak = np.abs(weight).max(0)
    outputs, inputs = weight.shape
    kinds: list[tuple[int, tuple[int, ...], Iterable[Floats | None]]] = [
        (inputs, (), _smoothings(peak, weight_peak, ())),
        (outputs + outliers_cost, largest, [None]),
        (outputs + inputs, largest, _smoothings(peak, weight_peak, largest)),
    ]
    plain = best = best_of((), [None])
    for _, outliers, smoothings in sorted(kinds, key=lambda kind: kind[0]):
        found = best_of(outliers, smoothings)
        if found.error < _WORTH_AN_OPERATOR * best.error:
            best = found
    return replace(best, plain_error=plain.error)


def _candidates(
    weight: Floats,
    coder: _Coder,
    outliers: tuple[int, ...],
    smoothings: Iterable[Floats | None],
    wanted: Floats,
    norms: Floats,
) -> Iterator[InputCodes]:
    for smoothing in smoothings:
        divisor = np.ones(weight.shape[1], np.float32) if smoothing is None else smoothing
        multiplier: Floats = np.reciprocal(divisor)
        multiplier[list(outliers)] = 0
        scaled: Floats = weight * divisor
        scaled[:, list(outliers)] = 0
        coded_weight = _rounded(scaled)
        least = np.inf
        for low, high, coded in coder(multiplier):
            missed = np.square(coded @ coded_weight.T - wanted).sum(1)
            error = float((missed / norms).mean())
            yield InputCodes(smoothing, outliers, low, high, error, error)
            # Ranges get narrower: once clipping outweighs finer steps, it only gets worse.
            if error > least:
                break
            least = error


def _rounded(weight: Floats) -> Floats:
    """int8 under the scale that just holds each row: searched ones would decide no choice here."""
    scales = INT8.storable(np.abs(weight).max(1, keepdims=True) / INT8.highest)
    return INT8.decode(INT8.encode(weight, scales), scales)


def _smoothings(peak: Floats, weight_peak: Floats, outliers: tuple[int, ...]) -> Iterator[Floats]:
    channel_peak = np.maximum(peak, 1e-5)
    channel_peak[list(outliers)] = np.median(channel_peak)
    for strength in _STRENGTHS:
        smoothing = channel_peak**strength / np.maximum(weight_peak, 1e-5) ** (1 - strength)
        yield (smoothing / np.exp(np.log(smoothing).mean())).astype(np.float32)


def _few_rows(samples: tuple[Floats, ...]) -> tuple[Floats, ...]:
    kept: list[Floats] = []
    left = _ROWS_FOR_CHOICE
    for sample in samples:
        kept.append(sample[:left])
        left -= len(kept[-1])
        if left <= 0:
            break
    return tuple(kept)


def _hull(low: Floats, high: Floats) -> tuple[float, float]:
    """The range that includes zero and everything between these."""
    return min(0.0, float(low.min())), max(0.0, float(high.max()))


def _code(rows: Floats, low: float, high: float) -> Floats:
    """`rows` after a round trip through uint8 codes of [low, high]."""
    scale, zero = scale_and_zero_point(low, high)
    codes = np.clip(np.rint(rows / scale) + np.float32(zero), 0, _LEVELS)
    decoded: Floats = (codes - np.float32(zero)) * scale
    return decoded


def _candidate_ranges(
    statistics: InputStatistics, multiplier: Floats, ranges: str
) -> list[tuple[float, float]]:
    low, high = _hull(statistics.low * multiplier, statistics.high * multiplier)
    if ranges == "minmax":
        return [(low, high)]
    if ranges == "error":
        return [(low * share, high * share) for share in _RANGE_SHARES]
    rows = statistics.rows * multiplier
    if ranges == "percentile":
        below, above = np.percentile(rows, _PERCENTILES)
        return [(min(0.0, float(below)), max(0.0, float(above)))]
    return [_least_divergence(rows, low, high)]


def _least_divergence(rows: Floats, low: float, high: float) -> tuple[float, float]:
    """The clipped range whose 256 codes preserve most of the distribution, by KL divergence.

    After Migacz, "8-bit inference with TensorRT", 2017, with both ends clipped in proportion.
    """
    shares = np.linspace(0.3, 1.0, 29)
    fine = 4096
    counts, _ = np.histogram(rows, bins=fine, range=(low, high or 1.0))

    def divergence(share: float) -> float:
        zero = fine * -low / (high - low) if high > low else 0.0
        first = int(zero - zero * share)
        last = max(first + 256, int(zero + (fine - zero) * share))
        kept = counts[first:last].astype(np.float64)
        reference = kept.copy()
        reference[0] += counts[:first].sum()
        reference[-1] += counts[last:].sum()
        coded = np.zeros_like(kept)
        for group in np.array_split(np.arange(len(kept)), 256):
            filled = kept[group] > 0
            if filled.any():
                coded[group[filled]] = kept[group].sum() / filled.sum()
        p, q = reference / reference.sum(), coded / max(coded.sum(), 1.0)
        seen = p > 0
        return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())

    share = min(shares, key=divergence)
    return low * share, high * share
