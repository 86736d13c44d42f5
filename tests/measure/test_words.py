"""Word error rates, compared with a search through every alignment."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from edgeq.measure.words import Transcripts, errors, wer, wer_rise


def slowly(found: tuple[str, ...], right: tuple[str, ...]) -> int:
    """Every way to replace, leave out and add, by the definition."""

    @functools.cache
    def least(i: int, j: int) -> int:
        if i == len(found) or j == len(right):
            return max(len(found) - i, len(right) - j)
        return min(
            least(i + 1, j + 1) + (found[i] != right[j]), least(i + 1, j) + 1, least(i, j + 1) + 1
        )

    return least(0, 0)


def test_errors_are_the_fewest() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = (tuple(rng.choice(list("abc"), rng.integers(0, 7))) for _ in range(2))
        assert errors(" ".join(a), " ".join(b)) == slowly(a, b)


def texts(count: int, wrong: float, seed: int) -> tuple[str, ...]:
    rng = np.random.default_rng(seed)
    return tuple("a x" if rng.random() < wrong else "a b" for _ in range(count))


def test_a_rise_is_a_paired_difference() -> None:
    names, right = tuple(map(str, range(80))), ("a b",) * 80
    original = texts(80, 0.3, 1)
    own = tuple("y x" if i < 8 else text for i, text in enumerate(original))
    found = Transcripts(names, own, original, right)
    rate, rise = wer(found), wer_rise(found)
    assert rate is not None
    assert rate.original is not None
    assert rise is not None
    assert rate.original == pytest.approx(sum(t == "a x" for t in original) / 160)
    assert rise.value == pytest.approx(rate.value - rate.original)
    assert rise.bounds is not None
    assert rate.bounds is not None
    assert rise.bounds.low < rise.value < rise.bounds.high
    assert rise.bounds.high - rise.bounds.low < rate.bounds.high - rate.bounds.low
    changed = 8 + sum(
        text == "a b" for text in original[:8]
    )  # the first word, and often the second
    agreement = found.agreement()
    assert agreement.value == pytest.approx(1 - changed / 160)
    assert agreement.bounds is not None
    assert agreement.bounds.low < agreement.value < agreement.bounds.high
    assert len(found.changed()) == 8


def test_case_and_punctuation_are_not_words() -> None:
    """A budget on words does not fail for a comma."""
    was, now = (
        "Well, I don't: ASK\N{HORIZONTAL ELLIPSIS}",
        "well I don\N{RIGHT SINGLE QUOTATION MARK}t ask",
    )
    found = Transcripts(("0", "1"), (now, "yes"), (was, "no"), (was, "yes"))
    assert found.agreement().value == pytest.approx(4 / 5)
    assert [each.text for each in found.changed()] == ["1"]
    rate = wer(found)
    assert rate is not None
    assert rate.value == 0
    assert rate.original == pytest.approx(1 / 5)


def test_silence_that_becomes_a_word_counts() -> None:
    found = Transcripts(("0", "1"), ("you", "a b"), ("", "a b"), None)
    assert found.agreement().value == pytest.approx(2 / 3)


def test_what_no_recording_shows_is_not_ruled_out() -> None:
    original = texts(60, 0.3, 2)
    found = Transcripts(tuple(map(str, range(60))), original, original, ("a b",) * 60)
    rise = wer_rise(found)
    assert rise is not None
    assert rise.bounds is not None
    assert rise.value == 0 < rise.bounds.high
    bounds = found.agreement().bounds
    assert bounds is not None
    assert bounds.low < 0.99
    silent = Transcripts(("0",), ("",), ("",), ("",))
    assert wer(silent) is wer_rise(silent) is None
    assert wer(Transcripts(("0",), ("a",), ("a",), None)) is None
