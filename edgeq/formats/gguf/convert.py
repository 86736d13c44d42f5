"""Weights in llama.cpp's layout: rows in another order, norms with one added.

Every transform works on a few rows at a time, and permutes whole rows only: it applies equally to a
weight's rows and to its codes' and scales' rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgeq.models.architectures import FAMILIES, Decoder
from edgeq.models.architectures.delta import Delta
from edgeq.models.weights import Weights
from edgeq.quantize.number_formats import Floats, QuantizedTensor

ReadRows = Callable[[int, int], Floats]
"""Rows `start` to `stop` in the file's layout, float32 `(stop - start, …)`."""


def row_order(decoder: Decoder | None, name: str) -> NDArray[np.int64] | None:
    """Which row of the Hugging Face weight each row in the file is; None if the order is unchanged.

    decoder: None for an encoder. name: the weight's Hugging Face name. Queries' and keys' rows of
    each head go from halves (0 … d/2-1, d/2 … d-1) to pairs (0, d/2, 1, d/2+1, …) where llama.cpp
    rotates neighbouring columns and the model does not. Of values that share keys, the first of
    every key's come first, not all of the first key.
    """
    if decoder is not None and decoder.delta is not None and ".linear_attn." in name:
        return _delta_rows(decoder.delta, name)
    if decoder is None or decoder.interleaved:
        return None
    if not FAMILIES[decoder.family].llama_cpp.neighbours:
        return None
    heads = {"q_proj": decoder.heads, "k_proj": decoder.kv_heads}.get(name.split(".")[-2])
    if heads is None:
        return None
    rows = np.arange(heads * decoder.head_dim, dtype=np.int64)
    return np.ascontiguousarray(rows.reshape(heads, 2, -1).swapaxes(1, 2)).reshape(-1)


def column_order(decoder: Decoder | None, name: str) -> NDArray[np.int64] | None:
    """The same for columns, of the weight that multiplies the values that share keys."""
    delta = decoder.delta if decoder is not None else None
    if delta is None or not name.endswith("linear_attn.out_proj.weight"):
        return None
    return _of_heads(delta, delta.value_width)


def _delta_rows(delta: Delta, name: str) -> NDArray[np.int64] | None:
    part = name.rpartition("linear_attn.")[2]
    if part.startswith(("in_proj_a.", "in_proj_b.", "A_log.", "dt.")):
        return _of_heads(delta, 1)
    values = _of_heads(delta, delta.value_width)
    if part.startswith("in_proj_z.") or values is None:
        return values
    if part.startswith(("in_proj_qkv.", "conv1d.")):
        rows: NDArray[np.int64] = np.append(np.arange(2 * delta.key), 2 * delta.key + values)
        return rows
    return None


def _of_heads(delta: Delta, width: int) -> NDArray[np.int64] | None:
    """Places of the values' heads, each `width` long; None if the order is unchanged."""
    shared = delta.value_heads // delta.key_heads
    if shared == 1:
        return None
    heads = np.arange(delta.value_heads, dtype=np.int64).reshape(-1, shared).T.reshape(-1, 1)
    return np.ascontiguousarray(heads * width + np.arange(width)).reshape(-1)


def read_rows(weights: Weights, decoder: Decoder | None, name: str) -> ReadRows:
    """A reader for a weight in the file's order and values, that holds only the requested rows.

    weights: the source. decoder, name: as for `row_order`. May be called from several threads.
    """
    order, columns = row_order(decoder, name), column_order(decoder, name)
    if name.endswith("linear_attn.A_log.weight"):
        plain = _reordered(weights, name, order) if order is not None else None
        return lambda start, stop: -np.exp((plain or partial(weights.rows, name))(start, stop))
    if columns is not None:
        return lambda start, stop: np.ascontiguousarray(weights.rows(name, start, stop)[:, columns])
    if order is not None:
        return _reordered(weights, name, order)
    if decoder and decoder.altup and name.endswith("altup.correction_coefs.weight"):
        most = decoder.altup.clip
        return lambda start, stop: np.clip(weights.rows(name, start, stop), -most, most)
    gated = name.endswith("linear_attn.norm.weight")
    if decoder and decoder.norm_plus_one and name.endswith("norm.weight") and not gated:
        return lambda start, stop: weights.rows(name, start, stop) + np.float32(1)
    return lambda start, stop: weights.rows(name, start, stop)


def reorder_codes(
    tensor: QuantizedTensor,
    order: NDArray[np.int64] | None,
    columns: NDArray[np.int64] | None = None,
) -> QuantizedTensor:
    """The same codes and scales in the order of `row_order` and `column_order`, whose heads are
    whole groups.
    """
    codes, scales = tensor.codes, tensor.scales
    if columns is not None:
        group = codes.shape[1] // scales.shape[1]
        codes, scales = codes[:, columns], scales[:, columns[::group] // group]
    if order is not None:
        codes, scales = codes[order], scales[order]
    return replace(tensor, codes=codes, scales=scales)


def _reordered(weights: Weights, name: str, order: NDArray[np.int64]) -> ReadRows:
    """Mostly a span of rows comes from a span not much longer: from within their own head."""

    def read(start: int, stop: int) -> Floats:
        wanted = order[start:stop]
        first = int(wanted.min())
        rows = weights.rows(name, first, int(wanted.max()) + 1)
        return np.ascontiguousarray(rows[wanted - first])

    return read
