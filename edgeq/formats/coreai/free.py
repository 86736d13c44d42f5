"""Sizes that are known when a program runs."""

from __future__ import annotations


class Free:
    """A size that each run decides."""

    def __int__(self) -> int:
        raise ValueError("a size depends on the input: build for one shape")

    __index__ = __int__
