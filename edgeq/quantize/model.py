"""Weights and statistics to codes, which every exporter writes and none rounds again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.threads import map_in_threads, samples_at_once
from edgeq.quantize.activations import InputCodes, choose_dynamic, choose_static
from edgeq.quantize.methods import Statistics, rounding_method
from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.number_formats import Floats, NumberFormat, QuantizedTensor, number_format
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.statistics import InputStatistics

_LARGEST_SCALE = float(np.finfo(np.float16).max)
_SMALLEST_SCALE = 2.0**-20  # four bits above the smallest that float16 holds


@dataclass(frozen=True)
class Choice:
    """A plan's decision for one weight: its number format, rounding method, and input codes.

    activations is `float32`, `dynamic-uint8` or `static-uint8`; ranges as in a recipe.
    """

    number_format: str
    method: str
    activations: str
    ranges: str | None


@dataclass(frozen=True)
class SourceWeight:
    """A weight to quantize, and the tensor that it multiplies.

    `read` gives the weight, float32 `(rows, columns)`, when its turn comes. `activation` is None
    where nothing is multiplied (an embedding table) or where calibration cannot look.
    """

    name: str
    read: Callable[[], Floats]
    activation: str | None
    choice: Choice


@dataclass(frozen=True)
class Quantized:
    """Codes of one weight and how its input is coded (None: the input stays float32).

    outlier_columns: float32 `(rows, outliers)`, the weights of the input's outlier channels, whose
    codes are zero; None where there are none.
    """

    tensor: QuantizedTensor
    input_codes: InputCodes | None
    outlier_columns: Floats | None
    activations: str

    @property
    def is_whole(self) -> bool:
        """Whether the codes stand for the weight itself: no factors for its inputs, no columns
        that are kept apart."""
        smoothed = self.input_codes is not None and self.input_codes.smoothing is not None
        return self.outlier_columns is None and not smoothed


def quantize_weights(
    weights: Sequence[SourceWeight], statistics: Mapping[str, InputStatistics]
) -> Iterator[tuple[str, Quantized]]:
    """Quantize weight by weight, those that share an input together, in the order given.

    Weights with the same input and the same choice share smoothing and range, since the input is
    coded once for all of them. Only one weight is in memory at a time, or a few whose inputs'
    codes are searched for.
    """
    groups: dict[tuple[str, str], list[SourceWeight]] = {}
    for weight in weights:
        own = weight.activation or f"\0{weight.name}"
        groups.setdefault((own, weight.choice.activations), []).append(weight)
    for members, codes in _with_input_codes(list(groups.values()), statistics):
        seen = statistics.get(members[0].activation or "")
        for weight in members:
            matrix = weight.read()
            scalable(weight.name, matrix, number_format(weight.choice.number_format))
            tensor = _round(matrix, weight.choice, seen, codes)
            outlier_columns = matrix[:, codes.outliers] if codes and codes.outliers else None
            yield weight.name, Quantized(tensor, codes, outlier_columns, weight.choice.activations)


def scalable(name: str, matrix: Floats, stored: NumberFormat) -> Floats:
    """`matrix`, whose scales the format can hold. Raises InvalidInput where it cannot hold them."""
    if isinstance(stored, IntegerFormat) and stored.scale_dtype is np.float16 and matrix.any():
        largest = float(max(matrix.max(), -matrix.min()))  # no copy: tables are large
        if not _SMALLEST_SCALE < largest / stored.highest < _LARGEST_SCALE:
            what = f"has values up to {largest:.3g}, whose scale float16 cannot hold"
            remedy = f"keep it in float: rules: [{{match: {name!r}, use: float32}}]"
            raise InvalidInput(Problem(f"the weight {name!r}", what, remedy))
    return matrix


def _with_input_codes(
    groups: Sequence[list[SourceWeight]], statistics: Mapping[str, InputStatistics]
) -> Iterator[tuple[list[SourceWeight], InputCodes | None]]:
    """Each group with the codes of its input, which are searched for a few at once."""

    def searched(members: list[SourceWeight]) -> InputCodes | None:
        return _input_codes(members, statistics.get(members[0].activation or ""))

    count = samples_at_once()
    for start in range(0, len(groups), count):
        several = groups[start : start + count]
        yield from zip(several, map_in_threads(searched, several, count), strict=True)


def _input_codes(
    members: Sequence[SourceWeight], seen: InputStatistics | None
) -> InputCodes | None:
    choice = members[0].choice
    if choice.activations == "float32" or seen is None:
        return None
    stacked = np.concatenate([weight.read() for weight in members])
    if choice.activations == "static-uint8":
        return choose_static(seen, stacked, choice.ranges or "error")
    return choose_dynamic(seen, stacked)


def _round(
    matrix: Floats, choice: Choice, seen: InputStatistics | None, codes: InputCodes | None
) -> QuantizedTensor:
    smoothing = codes.smoothing if codes else None
    if smoothing is not None:
        matrix = matrix * smoothing
    if codes and codes.outliers:
        matrix = matrix.copy()
        matrix[:, codes.outliers] = 0
    statistics = None if seen is None else _statistics(seen, smoothing)
    method = rounding_method(choice.method)
    return method.round(matrix, statistics, number_format(choice.number_format))


def _statistics(seen: InputStatistics, smoothing: Floats | None) -> Statistics:
    if seen.hessian is None:
        power = seen.power if smoothing is None else seen.power / np.square(smoothing)
        return Statistics(power.astype(np.float32))
    hessian = seen.hessian
    if smoothing is not None:
        hessian = hessian / np.outer(smoothing, smoothing)
    return Statistics.of(Moments(hessian.astype(np.float32)))
