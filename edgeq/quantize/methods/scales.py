"""Scales with the least error, found by a search instead of taken from the largest weight."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgeq.quantize.number_formats.base import Floats, QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.number_formats.kquants import BlockFormat

# Candidate scales as shares of the one that just holds the largest weight. A smaller scale clips
# the extreme to keep the many finer; a larger one may hit the others' codes better.
_SHARES = np.arange(24, 36, dtype=np.float32) / 32
_VALUES_AT_ONCE = 1 << 18  # keeps a thread's working set in its cache


def search_scales(
    weight: Floats, number_format: IntegerFormat, importance: Floats | None = None
) -> Floats:
    """The scale of each block that leaves the least (importance-weighted) squared error.

    weight: float32 `(rows, columns)`. importance: float32 `(columns,)`, e.g. the mean square of
    each input, or None for equal weights. Returns float32 `(rows, groups)`, storable.

    A scale may be negative: a format with one more code below zero than above it then has that
    code on the side of the extreme weight.
    """
    rows_at_once = max(1, _VALUES_AT_ONCE // weight.shape[1])
    pieces = [weight[i : i + rows_at_once] for i in range(0, len(weight), rows_at_once)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda piece: _search(piece, number_format, importance), pieces)
        return np.concatenate(list(found))


def _search(weight: Floats, number_format: IntegerFormat, importance: Floats | None) -> Floats:
    blocks = number_format.split(weight)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)[..., 0]
    least_error = np.full(extreme.shape, np.inf, np.float32)
    best = np.ones(extreme.shape, np.float32)
    importances = None
    if importance is not None:
        importances = number_format.split(importance[None, :].astype(np.float32))
    lowest, highest = number_format.lowest, number_format.highest
    for end in sorted({lowest, highest, -highest}):
        for share in _SHARES:
            scales = number_format.storable(extreme / np.float32(end) * share)
            codes = np.clip(np.rint(blocks / scales[..., None]), lowest, highest)
            missed = np.square(blocks - codes * scales[..., None])
            error = (missed if importances is None else missed * importances).sum(-1)
            better = error < least_error
            least_error[better] = error[better]
            best[better] = scales[better]
    return best


def starting_point(
    weight: Floats, number_format: IntegerFormat, importance: Floats | None, method: str
) -> QuantizedTensor:
    """The nearest codes under searched scales; GGUF's own formats have llama.cpp's search."""
    if isinstance(number_format, BlockFormat):
        from edgeq.quantize.ggml.blocks import STORED_AS, unpack_codes
        from edgeq.quantize.ggml.library import quantize_rows

        type = STORED_AS[number_format.name]
        return unpack_codes(quantize_rows(type, weight, importance), type, method)
    scales = search_scales(weight, number_format, importance)
    codes = number_format.encode(weight, scales)
    return QuantizedTensor(number_format, codes, scales, method)
