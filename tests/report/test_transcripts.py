"""Texts that differ, word by word."""

from __future__ import annotations

import pytest

from edgeq.report.page.transcripts import differing


@pytest.mark.parametrize(
    ("was", "now", "only_was", "only_now"),
    [
        ("a cat sat", "a dog sat", ["cat"], ["dog"]),
        ("the the end", "the end", ["the"], []),
        ("", "hello", [], ["hello"]),
        ("ask not", "ask not", [], []),
        ("Ask, not", "ask not.", [], []),
    ],
)
def test_words_of_one_text_only_are_marked(
    was: str, now: str, only_was: list[str], only_now: list[str]
) -> None:
    found = differing(was, now)
    assert [" ".join(word for word, _ in each) for each in found] == [was, now]
    assert [[word for word, marked in each if marked] for each in found] == [only_was, only_now]
