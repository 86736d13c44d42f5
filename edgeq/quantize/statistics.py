"""Statistics of tensors on calibration data: ranges, sample rows, second moments."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.threads import run_ahead
from edgeq.quantize.number_formats import Floats

Feed = Mapping[str, NDArray[np.generic]]

# Enough rows to rank scales by; more only cost time (the ranking is stable from a few hundred).
_ROWS_KEPT = 2048
# Second moments are summed over many rows at once: one sample's few would be all overhead.
_ROWS_PER_PRODUCT = 2048
# Second moments of wide layers are large (columns² × 8 bytes): process layers in turns within this.
_HESSIAN_BYTES_AT_ONCE = 512 << 20


class Session(Protocol):
    """Runs a graph: an onnxruntime session, which this room does not import."""

    def run(self, outputs: Any, feed: Any) -> Any:
        """Run on arrays by input name; returns the arrays of `outputs`, in order."""


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of one tensor during calibration, with its last axis as columns.

    samples: whole samples, each float32 `(rows, columns)`, up to a few thousand rows in all; none
    unless requested. low, high: float32 `(columns,)`, smallest and largest value of each column
    over all samples. power: float64 `(columns,)`, mean square of each column. count: number of rows
    in that mean. hessian: float64 `(columns, columns)`, mean of `x xᵀ` over all rows, or None
    unless requested.
    """

    samples: tuple[Floats, ...]
    low: Floats
    high: Floats
    power: NDArray[np.float64]
    count: int
    hessian: NDArray[np.float64] | None

    @property
    def nbytes(self) -> int:
        """Bytes of rows and moments, most of what it holds."""
        moments = 0 if self.hessian is None else self.hessian.nbytes
        return moments + sum(sample.nbytes for sample in self.samples)

    @property
    def rows(self) -> Floats:
        """All kept rows, float32 `(rows, columns)`."""
        return np.concatenate(self.samples)


Observed = dict[tuple[str, bool, bool, bool], InputStatistics]
"""Statistics of one graph on one set of samples, which variants share: by the tensor's name, and
whether its moments, its first rows, and rows of every sample are kept."""


def merged(several: Sequence[InputStatistics]) -> InputStatistics:
    """Statistics of several inputs of one weight, as if one tensor had all their rows."""
    if len(several) == 1:
        return several[0]
    count = sum(each.count for each in several)
    shares = [each.count / count for each in several]
    hessians = [each.hessian for each in several if each.hessian is not None]
    moment = sum((share * h for share, h in zip(shares, hessians, strict=False)), np.float64(0))
    turns = itertools.zip_longest(*(each.samples for each in several))
    return InputStatistics(
        samples=tuple(sample for turn in turns for sample in turn if sample is not None),
        low=np.min([each.low for each in several], 0),
        high=np.max([each.high for each in several], 0),
        power=np.average([each.power for each in several], 0, shares),
        count=count,
        hessian=np.asarray(moment) if len(hessians) == len(several) else None,
    )


class _Collector:
    """Collects the statistics of one tensor while samples come in."""

    def __init__(self, with_hessian: bool, with_samples: bool, spread_over: int = 0) -> None:
        """spread_over: how many samples share the kept rows equally; 0: the first rows are kept."""
        self._with_hessian = with_hessian
        self._share = -(-_ROWS_KEPT // spread_over) if spread_over else 0
        self._samples: list[Floats] = []
        self._rows_wanted = _ROWS_KEPT if with_samples else 0
        self._rows_seen = 0
        self._low: Floats | None = None
        self._high: Floats | None = None
        self._squares: NDArray[np.float64] | float = 0.0
        self._moment: NDArray[np.float64] | None = None
        self._pending: list[Floats] = []

    def add(self, value: NDArray[np.generic]) -> None:
        rows = value.reshape(-1, value.shape[-1]).astype(np.float32)
        if rows.size == 0:
            return
        low, high = rows.min(0), rows.max(0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        self._rows_seen += len(rows)
        self._squares = self._squares + np.square(rows).sum(0, dtype=np.float64)
        if self._with_hessian:
            self._pending.append(rows)
            if sum(map(len, self._pending)) >= _ROWS_PER_PRODUCT:
                self._add_moment()
        if self._rows_wanted > 0:
            rows = rows[:: -(-len(rows) // self._share)] if self._share else rows
            self._samples.append(rows[: self._rows_wanted])
            self._rows_wanted -= len(self._samples[-1])

    def _add_moment(self) -> None:
        rows = np.concatenate(self._pending)
        self._pending.clear()
        moment = (rows.T @ rows).astype(np.float64)
        self._moment = moment if self._moment is None else self._moment + moment

    def result(self) -> InputStatistics | None:
        if self._low is None or self._high is None:
            return None
        if self._pending:
            self._add_moment()
        hessian = None if self._moment is None else self._moment / self._rows_seen
        return InputStatistics(
            samples=tuple(self._samples),
            low=self._low,
            high=self._high,
            power=np.asarray(self._squares / self._rows_seen),
            count=self._rows_seen,
            hessian=hessian,
        )


def collect(
    session: Session,
    tensors: Mapping[str, int],
    feeds: Sequence[Feed],
    hessians: frozenset[str],
    samples: frozenset[str] | None = None,
    spread: frozenset[str] = frozenset(),
    labels: Mapping[str, str] | None = None,
) -> dict[str, InputStatistics]:
    """Run the float model on every feed and collect statistics of `tensors` (name → columns).

    session: of a model in which every watched tensor is an input or output. hessians: tensors whose
    second moments are wanted. samples: tensors whose rows are kept, by default all. spread: tensors
    for which a few rows of every sample are kept. Samples run one at a time and unpadded, so no
    padding enters any statistic. A tensor that is empty in every feed is missing from the result.
    labels: what errors call tensors, whose names in the graph may be edgeq's own. Raises
    InvalidInput for NaN and infinity.
    """
    found: dict[str, InputStatistics] = {}
    for names in _in_turns(tensors, hessians):
        collectors = {
            name: _Collector(
                name in hessians,
                samples is None or name in samples or name in spread,
                len(feeds) if name in spread else 0,
            )
            for name in names
        }

        def observed(feed: Feed, names: list[str] = names) -> Feed:
            inner = [name for name in names if name not in feed]
            # To onnxruntime, no names would mean all outputs.
            outputs = session.run(inner, dict(feed)) if inner else []
            return {**feed, **dict(zip(inner, outputs, strict=True))}

        for sample, values in enumerate(run_ahead(observed, feeds)):
            for name in names:
                label = (labels or {}).get(name, f"the tensor {name!r}")
                refuse_not_finite(label, values[name], sample)
                collectors[name].add(values[name])
        results = ((name, collector.result()) for name, collector in collectors.items())
        found.update({name: result for name, result in results if result is not None})
    return found


def refuse_not_finite(where: str, value: NDArray[np.generic], sample: int) -> None:
    """Raise InvalidInput where a tensor has NaN or infinity on a sample of the calibration data."""
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        what = f"is NaN or infinite on sample {sample} of the calibration data"
        remedy = "remove that sample, or export the model so that it stays within float32"
        raise InvalidInput(Problem(where, what, remedy))


def _in_turns(tensors: Mapping[str, int], hessians: frozenset[str]) -> list[list[str]]:
    """Groups of tensors whose second moments fit in memory together."""
    turns: list[list[str]] = [[]]
    used = 0
    for name, columns in tensors.items():
        cost = columns * columns * 8 if name in hessians else 0
        if turns[-1] and used + cost > _HESSIAN_BYTES_AT_ONCE:
            turns.append([])
            used = 0
        turns[-1].append(name)
        used += cost
    return turns
