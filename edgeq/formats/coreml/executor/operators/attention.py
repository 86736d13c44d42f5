"""Attention."""

from __future__ import annotations

import math

import numpy as np

from edgeq.formats.coreml.executor.operators.normalisation import softmax
from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array


@operator("scaled_dot_product_attention")
def attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Array:
    """`softmax(query · keyᵀ / sqrt(width) + mask) · value`.

    query (batch…, length, width), key (batch…, source, width), value (batch…, source, any); the
    mask broadcasts to (batch…, length, source), added where it is float; a bool keeps what is True.
    """
    scores = np.matmul(query * np.float32(1 / math.sqrt(query.shape[-1])), key.swapaxes(-1, -2))
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        scores = np.where(attn_mask, scores, np.float32(-np.inf))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return np.asarray(np.matmul(softmax(scores), value))
