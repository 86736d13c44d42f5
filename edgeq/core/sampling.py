"""Evenly spaced samples of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of `items` evenly spaced, in order and deterministic; or all of them."""
    if count >= len(items):
        return list(items)
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


LEAST_SAMPLES = 20
"""Fewer samples have no reliable interval."""
