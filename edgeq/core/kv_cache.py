"""Types that runtimes keep a language model's keys and values in."""

from __future__ import annotations

from typing import Literal, get_args

KvType = Literal["f32", "f16", "q8_0", "q4_0"]
"""Types of a KV cache, by llama.cpp's names, most precise first."""
KV_TYPES: tuple[KvType, ...] = get_args(KvType)

BYTES_PER_VALUE: dict[KvType, float] = {"f32": 4, "f16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Bytes of one key or value, with its share of a block's scale."""

QUANTIZED: tuple[KvType, ...] = ("q8_0", "q4_0")
BLOCK = 32
"""Values that share a scale: a head's width must be a multiple of it."""
