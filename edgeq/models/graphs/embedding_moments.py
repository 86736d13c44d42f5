"""The effect of errors in a table's rows on a model's answers.

A looked-up row passes through all layers, so no input's moments measure the cost of its errors. The
cost is measured instead: every column of the looked-up rows is perturbed slightly, up or down at
random at each place, and the model is run to its outputs. To second order an error `δ` of a row
then costs `δᵀ F δ` with `F` the mean of `gᵀ g` over outputs, `g` an output's change for each
column. For predictions `F` is the Fisher information: outputs are drawn by their probabilities, and
the mean change under these is subtracted, so that the cost is twice a KL divergence in nats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.core.sampling import spread
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.threads import run_ahead
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.pieces import CACHE_OUTPUT, Array, Piece, Pieces, Samples
from edgeq.models.graphs.weights import Weight, find_weights
from edgeq.quantize.methods import Statistics
from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.statistics import Feed

_WINDOWS = 4  # the last of them judges the others' result
_LONGEST = 128  # tokens per window
# Tokens of all windows times columns, the work to run: more columns leave fewer tokens for
# each. Never more than all calibration data has.
_WORK = 1 << 16
_SHORTEST = 8
_SHARE = 0.05  # perturbation of columns, as a fraction of the rows' root mean square
_DRAWN = 16  # outputs sampled per place
_BYTES_AT_ONCE = 1 << 28  # bytes of weights in a piece of the graph
_PREDICTIONS = "logits"


def looked_up(weight: Weight) -> str | None:
    """The tensor of rows that a node of the main graph looks up in `weight`; None without one."""
    uses = (use for use in weight.uses if use.role == "embedding" and use.in_main_graph)
    return next((use.node.outputs[0].name for use in uses), None)


def table_moments(directory: Path, table: Weight, feeds: Sequence[Feed]) -> Statistics:
    """`F` of a table in the form of input moments: float32 `(columns, columns)`.

    directory: of the float `model.onnx`. table: one with `looked_up` rows. feeds: calibration
    samples, at least one; integers `(1, tokens)` in them are truncated where the graph permits.
    """
    rows = looked_up(table)
    assert rows is not None
    columns = table.shape_by_rows[1]
    work = min(_WORK, sum(map(_length, feeds)))
    tokens = int(np.clip(work // (columns * _WINDOWS), _SHORTEST, _LONGEST))
    whole = spread(list(feeds), _WINDOWS)
    try:
        found = _responses(directory, rows, [_cut(feed, tokens) for feed in whole])
    except Exception:  # onnxruntime's share no base class: a graph for texts of one length
        found = _responses(directory, rows, whole)
    taught = found[:-1] or found
    fit: Floats = sum(taught[1:], taught[0]) / np.float32(len(taught))
    return Statistics.of(Moments(fit), Moments(found[-1]))


def _length(feed: Feed) -> int:
    return max((value.shape[1] for value in feed.values() if _is_text(value)), default=1)


def _cut(feed: Feed, tokens: int) -> Feed:
    """The first tokens of a text, and of masks and other inputs that are as long."""
    length = _length(feed)
    return {
        name: value[:, :tokens] if value.ndim > 1 and value.shape[1] == length else value
        for name, value in feed.items()
    }


def _is_text(value: Array) -> bool:
    return value.ndim == 2 and value.dtype.kind == "i"


class _Probes(Sequence[Feed]):
    """Every window unchanged, then with one column after the other perturbed."""

    def __init__(self, windows: Sequence[Feed], name: str, rows: Sequence[Floats]) -> None:
        self._windows, self._name, self._rows = windows, name, rows
        self.columns = int(rows[0].shape[-1])
        self.step = np.float32(_SHARE * np.sqrt(np.mean([np.square(r).mean() for r in rows])))
        random = np.random.default_rng(0)
        self._signs = [
            np.where(random.random(r.shape[:-1]) < 0.5, -self.step, self.step) for r in rows
        ]

    def __len__(self) -> int:
        return len(self._windows) * (self.columns + 1)

    @overload
    def __getitem__(self, index: int) -> Feed: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feed]: ...
    def __getitem__(self, index: int | slice) -> Feed | Sequence[Feed]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index >= len(self):
            raise IndexError(index)
        window, column = divmod(index, self.columns + 1)
        rows = self._rows[window].copy()
        if column:
            rows[..., column - 1] += self._signs[window]
        return {**self._windows[window], self._name: rows}


def _responses(directory: Path, name: str, windows: Sequence[Feed]) -> list[Floats]:
    """`F` of each window."""
    with TemporaryFolder() as folder:
        return list(_each_response(directory, name, windows, Path(folder)))


def _each_response(
    directory: Path, name: str, windows: Sequence[Feed], folder: Path
) -> Iterator[Floats]:
    model = load_graph(directory)
    first = Pieces(directory, ()).until(name, windows[0])
    assert first is not None
    read = [{each: window[each] for each in first.inputs} for window in windows]
    probes = _Probes(windows, name, [first.session.run([name], each)[0] for each in read])
    samples = Samples(probes, folder)
    pieces = Pieces(directory, ())
    for target in _cuts(pieces, model):
        piece = pieces.until(target, samples[0])
        if piece is not None:
            samples.advance(piece, {})
            samples.drop()
    names = [value.name or "" for value in model.graph.outputs]
    outputs = [each for each in names if not each.startswith(CACHE_OUTPUT)]
    answers = _answers(pieces, samples, outputs)
    for _ in windows:
        yield _curvature(answers, outputs, probes)


def _answers(
    pieces: Pieces, samples: Samples, outputs: Sequence[str]
) -> Iterator[tuple[Floats, ...]]:
    """Outputs of one sample after the other, `(places, values)`; logits are too large to keep."""
    last: list[Piece] = []
    available = samples[0]
    for name in outputs:
        piece = pieces.until(name, available)
        if piece is not None:
            last.append(piece)
            available |= _run(piece, available)

    def answered(available: dict[str, Array]) -> tuple[Floats, ...]:
        for piece in last:
            available |= _run(piece, available)
        values = [np.asarray(available[name], np.float32) for name in outputs]
        return tuple(value.reshape(-1, value.shape[-1]) for value in values)

    yield from run_ahead(answered, (samples[index] for index in range(len(samples))))


def _run(piece: Piece, available: Mapping[str, Array]) -> dict[str, Array]:
    results = piece.run({name: available[name] for name in piece.inputs})
    return dict(zip(piece.outputs, results, strict=True))


def _cuts(pieces: Pieces, model: ir.Model) -> Iterator[str]:
    """Tensors at which to cut, so that no piece has many weights."""
    sizes: dict[str, int] = {}
    for weight in find_weights(model):
        if weight.product is not None:
            name = weight.product.activation.name or ""
            size = int(np.prod(weight.shape, dtype=np.int64)) * 4
            sizes[name] = sizes.get(name, 0) + size
    size = 0
    for name in sorted(sizes, key=pieces.place):
        size += sizes[name]
        if size > _BYTES_AT_ONCE:
            size = 0
            yield name


def _curvature(
    answers: Iterator[tuple[Floats, ...]], outputs: Sequence[str], probes: _Probes
) -> Floats:
    """`F` from a window's own answers and those with each column perturbed, which follow."""
    random = np.random.default_rng(0)
    plain = next(answers)
    shares = [
        _softmax(answer) if name == _PREDICTIONS else np.full_like(answer, 1 / answer.shape[1])
        for name, answer in zip(outputs, plain, strict=True)
    ]
    drawn = [_draw(share, random) for share in shares]
    changes = np.empty((probes.columns, sum(each.size for each in drawn)), np.float32)
    for column in range(probes.columns):
        parts = []
        for name, before, after, share, places in zip(
            outputs, plain, next(answers), shares, drawn, strict=True
        ):
            change = (after - before) / probes.step
            if name == _PREDICTIONS:
                change -= (share * change).sum(1, keepdims=True)
            parts.append(np.take_along_axis(change, places, 1).ravel())
        changes[column] = np.concatenate(parts)
    found: Floats = changes @ changes.T
    found /= np.float32(changes.shape[1])
    return found


def _softmax(logits: Floats) -> Floats:
    shares: Floats = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return shares


def _draw(shares: Floats, random: np.random.Generator) -> NDArray[np.int64]:
    """Columns drawn by their shares, int64 `(rows, drawn)`."""
    ends = shares.cumsum(1, dtype=np.float64)
    wished = random.random((len(shares), _DRAWN)) * ends[:, -1:]
    found = [np.searchsorted(row, at) for row, at in zip(ends, wished, strict=True)]
    drawn: NDArray[np.int64] = np.minimum(np.stack(found), shares.shape[1] - 1)
    return drawn
