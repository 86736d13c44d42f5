"""How the inputs of a matrix product become 8-bit codes: ranges, and smoothing into the weights.

Per-tensor activation codes lose most where a few channels are far larger than the rest, as after
the layer norms and activations of transformers. SmoothQuant (Xiao, Lin, Seznec, Wu, Demouth, Han,
2022, arXiv:2211.10438, eq. 4) divides channel j by `s_j = peak_j^α / weight_peak_j^(1-α)` and
multiplies the weights by it. Here α is chosen for each product by the error of its output, and
where plain codes do nearly as well the multiply is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edgeq.calibration.statistics import InputStatistics
from edgeq.quantize.grids import INT8, Floats
from edgeq.quantize.nearest import round_to_nearest

_STRENGTHS = (0.5, 0.6, 0.7, 0.8)
# A multiply more at run time must at least halve the error to be worth its time.
_WORTH_A_MULTIPLY = 0.5
_RANGE_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_ROWS_FOR_CHOICE = 1024
_LEVELS = 255


@dataclass(frozen=True)
class InputCodes:
    """How one tensor becomes uint8 codes.

    smoothing: float32 `(columns,)` to divide by beforehand, or None. low, high: the static range
    after smoothing (None when ranges are taken at run time). error and plain_error: squared error
    of the product's output over its squared norm, with these codes and with min-max codes without
    smoothing, on calibration rows.
    """

    smoothing: Floats | None
    low: float | None
    high: float | None
    error: float
    plain_error: float


def choose_dynamic(statistics: InputStatistics, weight: Floats) -> InputCodes:
    """Smoothing for ranges taken from each input as it comes.

    weight: float32 `(rows, columns)`, of every product that reads this tensor, stacked by rows.
    """

    def dynamic_codes(samples: tuple[Floats, ...]) -> Iterator[tuple[float, float, Floats]]:
        coded = [_code(sample, *_low_high(sample)) for sample in samples]
        yield 0.0, 0.0, np.concatenate(coded)

    best = _choose(statistics, weight, dynamic_codes)
    return InputCodes(best.smoothing, None, None, best.error, best.plain_error)


def choose_static(statistics: InputStatistics, weight: Floats, ranges: str) -> InputCodes:
    """Smoothing and a fixed range; `ranges` is minmax, percentile, entropy or error."""

    def static_codes(samples: tuple[Floats, ...]) -> Iterator[tuple[float, float, Floats]]:
        rows = np.concatenate(samples)
        for low, high in _candidate_ranges(rows, ranges):
            yield low, high, _code(rows, low, high)

    return _choose(statistics, weight, static_codes)


def static_range(statistics: InputStatistics, ranges: str) -> tuple[float, float]:
    """A fixed range for a tensor that is not the input of a product: least error of its own."""
    rows = statistics.rows
    candidates = _candidate_ranges(rows, ranges)
    return min(candidates, key=lambda c: float(np.square(_code(rows, *c) - rows).sum()))


def scale_and_zero_point(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """uint8 parameters of the range [low, high], which is widened to hold zero.

    `value ≈ scale × (code - zero_point)`; zero is exact, so padding stays zero.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / _LEVELS)
    if scale < np.finfo(np.float32).tiny:  # nothing but zeros, to float32's precision
        scale = np.float32(1)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, _LEVELS))


_Coder = Callable[[tuple[Floats, ...]], Iterator[tuple[float, float, Floats]]]


def _choose(statistics: InputStatistics, weight: Floats, coder: _Coder) -> InputCodes:
    samples = _few_rows(statistics.samples)
    wanted = np.concatenate(samples) @ weight.T
    norm = float(np.square(wanted).sum()) or 1.0
    plain: InputCodes | None = None
    best: InputCodes | None = None
    for smoothing in _smoothings(statistics.channel_peak, weight):
        smooth = samples if smoothing is None else tuple(s / smoothing for s in samples)
        scaled = weight if smoothing is None else weight * smoothing
        coded_weight = round_to_nearest(scaled, INT8).dequantize().T
        for low, high, coded in coder(smooth):
            error = float(np.square(coded @ coded_weight - wanted).sum()) / norm
            plain_error = error if plain is None else plain.plain_error
            found = InputCodes(smoothing, low, high, error, plain_error)
            plain = plain or found
            if smoothing is None and error < plain.error:
                plain = InputCodes(None, low, high, error, plain.plain_error)
            if best is None or error < best.error:
                best = found
    assert plain is not None and best is not None  # the first candidate is always tried
    return best if best.error < _WORTH_A_MULTIPLY * plain.error else plain


def _smoothings(peak: Floats, weight: Floats) -> Iterator[Floats | None]:
    yield None
    weight_peak = np.maximum(np.abs(weight).max(0), 1e-5)
    channel_peak = np.maximum(peak, 1e-5)
    for strength in _STRENGTHS:
        smoothing = channel_peak**strength / weight_peak ** (1 - strength)
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


def _low_high(rows: Floats) -> tuple[float, float]:
    return min(0.0, float(rows.min())), max(0.0, float(rows.max()))


def _code(rows: Floats, low: float, high: float) -> Floats:
    """`rows` after a round trip through uint8 codes of [low, high]."""
    scale, zero = scale_and_zero_point(low, high)
    codes = np.clip(np.rint(rows / scale) + np.float32(zero), 0, _LEVELS)
    return (codes - np.float32(zero)) * scale


def _candidate_ranges(rows: Floats, ranges: str) -> list[tuple[float, float]]:
    low, high = _low_high(rows)
    if ranges == "minmax":
        return [(low, high)]
    if ranges == "percentile":
        below, above = np.percentile(rows, [0.001, 99.999])
        return [(min(0.0, float(below)), max(0.0, float(above)))]
    if ranges == "entropy":
        return [_least_divergence(rows, low, high)]
    return [(low * share, high * share) for share in _RANGE_SHARES]


def _least_divergence(rows: Floats, low: float, high: float) -> tuple[float, float]:
    """The clipped range whose 256 codes keep most of the distribution, by KL divergence.

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
