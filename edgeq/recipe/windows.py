"""Split a long text into windows of token ids, for calibrating and judging language models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from edgeq.core.errors import InvalidInput, Problem

DEFAULT_WINDOW = 256
"""Tokens per window for measuring quality."""


def split(
    ids: Sequence[int], size: int, first: int | None, where: str, count: int | None = None
) -> list[list[int]]:
    """Split `ids` into windows of `size` tokens, dropping the rest.

    first: the token that replaces the first one of each window, if the model wants a first token;
    None for none. count: how many windows to use, the same ones on every machine; None for all.
    `where` names the text in errors: InvalidInput if it has no whole window, or fewer than `count`.
    """
    windows = [list(ids[start : start + size]) for start in range(0, len(ids) - size + 1, size)]
    if not windows:
        what = f"has {len(ids)} tokens, less than one window of {size}"
        raise InvalidInput(Problem(where, what, "give a longer text"))
    if count is not None and count > len(windows):
        what = f"has {len(windows)} windows of {size} tokens, {count} are requested"
        remedy = f"write 'samples: {len(windows)}', or give a longer text"
        raise InvalidInput(Problem(where, what, remedy))
    if first is not None:
        for window in windows:
            window[0] = first
    return windows if count is None else drawn(windows, count)


def drawn(windows: Sequence[list[int]], count: int) -> list[list[int]]:
    """`count` of the windows, from all over the text: the same ones on every machine."""
    chosen = sorted(sorted(range(len(windows)), key=_draw)[:count])
    return [windows[index] for index in chosen]


def _draw(index: int) -> bytes:
    return hashlib.sha256(f"0:{index}".encode()).digest()
