"""Heads of layers without a window, where they differ from the others'."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Heads:
    """kv_heads: of keys and values. head_dim: width of each. one_product: values are the keys'
    product with the layer's input, before their norm and rotation.
    """

    kv_heads: int
    head_dim: int
    one_product: bool
