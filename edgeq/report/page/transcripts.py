"""Texts of a speech recogniser, word by word."""

from __future__ import annotations

import difflib

from edgeq.measure.words import spoken


def differing(was: str, now: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """The words of two texts, and whether each is said in this text only.

    >>> differing("a cat sat", "A dog sat.")[1]
    [('A', False), ('dog', True), ('sat.', False)]
    """
    both = was.split(), now.split()
    before, after = ([" ".join(spoken(word)) for word in words] for words in both)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    same = [[False] * len(words) for words in both]
    for block in matcher.get_matching_blocks():
        for at in range(block.size):
            same[0][block.a + at] = same[1][block.b + at] = True
    first, second = (
        [(word, not known) for word, known in zip(words, own, strict=True)]
        for words, own in zip(both, same, strict=True)
    )
    return first, second
