"""Round to nearest, with scales searched instead of taken from the largest weight."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgeq.quantize.number_formats.groups import Floats, Grid, QuantizedTensor

# Candidate scales as shares of the one that just holds the largest weight. A smaller scale clips
# the extreme to keep the many finer; a larger one may hit the others' codes better.
_SHARES = np.arange(24, 36, dtype=np.float32) / 32
_VALUES_AT_ONCE = 1 << 18  # keeps a thread's working set in its cache


def search_scales(weight: Floats, grid: Grid, importance: Floats | None = None) -> Floats:
    """The scale of each block that leaves the least (importance-weighted) squared error.

    weight: float32 `(rows, columns)`. importance: float32 `(columns,)`, e.g. the mean square of
    each input, or None for equal weights. Returns float32 `(rows, blocks)` that the grid can hold.

    A scale may be negative: a grid with one more code below zero than above it then has that
    code on the side of the extreme weight.
    """
    rows_at_once = max(1, _VALUES_AT_ONCE // weight.shape[1])
    pieces = [weight[i : i + rows_at_once] for i in range(0, len(weight), rows_at_once)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda piece: _search(piece, grid, importance), pieces)
        return np.concatenate(list(found))


def _search(weight: Floats, grid: Grid, importance: Floats | None) -> Floats:
    blocks = grid.split(weight)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)[..., 0]
    least_error = np.full(extreme.shape, np.inf, np.float32)
    best = np.ones(extreme.shape, np.float32)
    importances = None
    if importance is not None:
        importances = grid.split(importance[None, :].astype(np.float32))
    for end in sorted({grid.lowest, grid.highest, -grid.highest}):
        for share in _SHARES:
            scales = grid.storable(extreme / np.float32(end) * share)
            codes = np.clip(np.rint(blocks / scales[..., None]), grid.lowest, grid.highest)
            missed = np.square(blocks - codes * scales[..., None])
            error = (missed if importances is None else missed * importances).sum(-1)
            better = error < least_error
            least_error[better] = error[better]
            best[better] = scales[better]
    return best


def round_to_nearest(
    weight: Floats, grid: Grid, importance: Floats | None = None
) -> QuantizedTensor:
    """Each weight to its nearest code under searched scales (see `search_scales`)."""
    scales = search_scales(weight, grid, importance)
    return QuantizedTensor(grid, grid.encode(weight, scales), scales, "nearest")
