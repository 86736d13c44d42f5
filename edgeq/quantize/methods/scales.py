"""Scales with the least error, found by a search instead of taken from the largest weight."""

from __future__ import annotations

import numpy as np

from edgeq.core.threads import map_in_threads
from edgeq.quantize.number_formats.base import Floats, QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.number_formats.kquants import BlockFormat

# Candidate scales as shares of the one that just holds the largest weight. A larger scale may hit
# the others' codes better; a smaller one clips the extreme to keep the many finer.
_HOLDING = np.arange(32, 36, dtype=np.float32) / 32
_CLIPPING = np.arange(31, 23, -1, dtype=np.float32) / 32
_VALUES_AT_ONCE = 1 << 15  # keeps a thread's working set in its cache


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
    found = map_in_threads(lambda piece: _search(piece, number_format, importance), pieces)
    return np.concatenate(found)


def _search(weight: Floats, number_format: IntegerFormat, importance: Floats | None) -> Floats:
    # a block's values first, its place last: what is done to each block is then done in long runs
    blocks = _places_last(number_format.split(weight))
    at = np.abs(blocks).argmax(0)[None]
    extreme = np.take_along_axis(blocks, at, 0)[0]
    importances, extreme_importance = None, np.ones_like(extreme)
    if importance is not None:
        importances = _places_last(number_format.split(importance[None, :].astype(np.float32)))
        extreme_importance = np.take_along_axis(importances, at, 0)[0]
    lowest, highest = number_format.lowest, number_format.highest
    least_error = np.full(extreme.shape, np.inf, np.float32)
    best = np.ones(extreme.shape, np.float32)
    codes, missed = np.empty_like(blocks), np.empty_like(blocks)

    def try_scales(scales: Floats) -> None:
        np.divide(blocks, scales, out=codes)
        np.rint(codes, out=codes)
        np.clip(codes, lowest, highest, out=codes)
        np.multiply(codes, scales, out=codes)
        np.subtract(blocks, codes, out=missed)
        np.square(missed, out=missed)
        if importances is not None:
            np.multiply(missed, importances, out=missed)
        error = missed.sum(0)
        better = error < least_error
        least_error[better] = error[better]
        best[better] = scales[better]

    # Where codes are symmetric, a scale of the other sign gives the same values. Once the extreme
    # alone misses as much as the best scale's whole block, smaller scales only miss more.
    ends = {lowest} if lowest == -highest else {lowest, highest, -highest}
    for end in sorted(ends):
        just_holds = extreme / np.float32(end)
        for share in _HOLDING:
            try_scales(number_format.storable(just_holds * share))
        for share in _CLIPPING:
            scales = number_format.storable(just_holds * share)
            reach = scales * (lowest if end < 0 else highest)
            clipped = np.maximum(np.abs(extreme) - np.abs(reach), 0)
            if np.all(np.square(clipped) * extreme_importance >= least_error):
                break
            try_scales(scales)
    return best


def _places_last(blocks: Floats) -> Floats:
    """`(rows, groups, group_size)` as `(group_size, rows, groups)`."""
    return np.ascontiguousarray(np.moveaxis(blocks, -1, 0))


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
