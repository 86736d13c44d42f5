"""Samples to learn from and to judge by are apart, and short texts are taken in greater number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="the extra 'fit' is not installed")

from edgeq.pipeline.allocate.holdout import Holdout, as_many, learnt_from
from edgeq.quantize.statistics import Feed


def texts(lengths: list[int]) -> list[Feed]:
    return [{"input_ids": np.full((1, n), i, np.int64)} for i, n in enumerate(lengths)]


def names(feeds: list[Feed]) -> set[int]:
    return {int(feed["input_ids"][0, 0]) for feed in feeds}


@given(st.lists(st.integers(1, 600), min_size=16, max_size=80), st.integers(1, 24))
def test_what_judges_taught_nothing(lengths: list[int], count: int) -> None:
    feeds = texts(lengths)
    learnt = names(learnt_from(feeds, count))
    held = names(Holdout(feeds, count, None).feeds)
    assert not learnt & held
    assert min(len(learnt), len(held)) >= min(count, len(feeds) // 8)


@given(st.integers(1, 512), st.integers(1, 48))
def test_short_texts_add_up_to_as_many_tokens_as_long_ones(length: int, count: int) -> None:
    taken = as_many(texts([length] * 10), count)
    assert taken >= count
    assert (taken + 1) * length > count * 512 >= taken * length


def test_arrays_are_counted_one_by_one() -> None:
    feeds: list[Feed] = [{"image": np.zeros((1, 3, 8, 8), np.float32)}] * 32
    assert as_many(feeds, 5) == 5
    assert len(learnt_from(feeds, 5)) == 5
