"""Texts of a speech recogniser, word by word."""

from __future__ import annotations

import difflib


def differing(was: str, now: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """The words of two texts, and whether each is in this text only.

    >>> differing("a cat sat", "a dog sat")[1]
    [('a', False), ('dog', True), ('sat', False)]
    """
    both = was.split(), now.split()
    matcher = difflib.SequenceMatcher(None, *both, autojunk=False)
    same = [[False] * len(words) for words in both]
    for block in matcher.get_matching_blocks():
        for at in range(block.size):
            same[0][block.a + at] = same[1][block.b + at] = True
    first, second = (
        [(word, not known) for word, known in zip(words, own, strict=True)]
        for words, own in zip(both, same, strict=True)
    )
    return first, second
