"""Weights in llama.cpp's layout: rows in another order, norms with one added.

Every transform works on a few rows at a time, and permutes whole rows only: it applies equally to a
weight's rows and to its codes' and scales' rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgeq.models.architectures import FAMILIES, Decoder
from edgeq.models.weights import Weights
from edgeq.quantize.number_formats import Floats, QuantizedTensor

ReadRows = Callable[[int, int], Floats]
"""Rows `start` to `stop` in the file's layout, float32 `(stop - start, …)`."""


def row_order(decoder: Decoder | None, name: str) -> NDArray[np.int64] | None:
    """Which row of the Hugging Face weight each row in the file is; None if the order is unchanged.

    decoder: None for an encoder. name: the weight's Hugging Face name. Queries' and keys' rows of
    each head go from halves (0 … d/2-1, d/2 … d-1) to pairs (0, d/2, 1, d/2+1, …) where llama.cpp
    rotates neighbouring columns and the model does not.
    """
    if decoder is None or decoder.interleaved:
        return None
    if not FAMILIES[decoder.family].llama_cpp.neighbours:
        return None
    heads = {"q_proj": decoder.heads, "k_proj": decoder.kv_heads}.get(name.split(".")[-2])
    if heads is None:
        return None
    rows = np.arange(heads * decoder.head_dim, dtype=np.int64)
    return np.ascontiguousarray(rows.reshape(heads, 2, -1).swapaxes(1, 2)).reshape(-1)


def read_rows(weights: Weights, decoder: Decoder | None, name: str) -> ReadRows:
    """A reader for a weight in the file's order and values, that holds only the requested rows.

    weights: the source. decoder, name: as for `row_order`. May be called from several threads.
    """
    order = row_order(decoder, name)
    if order is not None:
        return _reordered(weights, name, order)
    if name.endswith("linear_attn.A_log.weight"):
        return lambda start, stop: -np.exp(weights.rows(name, start, stop))
    gated = name.endswith("linear_attn.norm.weight")
    if decoder and decoder.norm_plus_one and name.endswith("norm.weight") and not gated:
        return lambda start, stop: weights.rows(name, start, stop) + np.float32(1)
    return lambda start, stop: weights.rows(name, start, stop)


def reorder_codes(tensor: QuantizedTensor, order: NDArray[np.int64] | None) -> QuantizedTensor:
    """The same codes and scales in the order of `row_order`."""
    if order is None:
        return tensor
    return replace(tensor, codes=tensor.codes[order], scales=tensor.scales[order])


def _reordered(weights: Weights, name: str, order: NDArray[np.int64]) -> ReadRows:
    """Rows come from within their own head, so a span of them comes from a span not much longer."""

    def read(start: int, stop: int) -> Floats:
        wanted = order[start:stop]
        first = int(wanted.min())
        rows = weights.rows(name, first, int(wanted.max()) + 1)
        return np.ascontiguousarray(rows[wanted - first])

    return read
