"""Rotary positions as llama.cpp's loaders read them."""

from __future__ import annotations

import math

import numpy as np

from edgeq.formats.gguf.values import MetaValue, real_number, whole_number
from edgeq.models.architectures import Decoder
from edgeq.models.rope import Rope
from edgeq.quantize.number_formats import Floats

# Divisors of the frequencies of columns that rotate, and of those that do not.
_OF_STILL = np.array([1, 1e30], np.float32)


def rope_scaling(decoder: Decoder) -> tuple[dict[str, MetaValue], dict[str, Floats]]:
    """Keys and small tensors of a stretched rope."""
    rope = decoder.rope
    if rope.kind == "linear":
        return {**_stretched("linear", rope)}, {}
    if rope.kind == "llama3":
        return {}, {"rope_freqs.weight": divisors(rope)}
    if rope.kind == "proportional":
        turning = rope.dim // 2 - rope.still
        return {}, {"rope_freqs.weight": np.repeat(_OF_STILL, [turning, rope.still])}
    if rope.kind == "yarn":
        return _yarn_keys(rope), {}
    if decoder.family != "phi3":
        return {}, {}
    keys = {"rope.scaling.original_context_length": whole_number(rope.original)}
    if rope.kind != "longrope":
        return keys, {}
    keys["rope.scaling.attn_factor"] = real_number(rope.magnitude)
    factors = {"long": rope.long, "short": rope.short}
    tensors = {
        f"rope_factors_{name}.weight": np.asarray(values, np.float32)
        for name, values in factors.items()
    }
    return keys, tensors


def _stretched(kind: str, rope: Rope) -> dict[str, MetaValue]:
    text = MetaValue("string", kind)
    return {"rope.scaling.type": text, "rope.scaling.factor": real_number(rope.factor)}


def _yarn_keys(rope: Rope) -> dict[str, MetaValue]:
    """llama.cpp multiplies the factor by its own magnitude."""
    own = 0.1 * math.log(rope.factor) + 1
    return {
        **_stretched("yarn", rope),
        "rope.scaling.original_context_length": whole_number(rope.original),
        "rope.scaling.attn_factor": real_number(rope.magnitude / own),
    }


def divisors(rope: Rope) -> Floats:
    """The divisor of each rotation's frequency: 1 for fast ones, `factor` for slow ones.

    Between, frequencies are blended (Llama 3.1's model card). float32 `(rope_dim / 2,)`.
    """
    exponents = np.arange(0, rope.dim, 2, dtype=np.float32) / np.float32(rope.dim)
    frequencies = 1 / np.float32(rope.theta) ** exponents
    turns = rope.original * frequencies / (2 * math.pi)
    kept = np.clip((turns - rope.low) / (rope.high - rope.low), 0, 1)
    return np.asarray(1 / ((1 - kept) / rope.factor + kept), np.float32)
