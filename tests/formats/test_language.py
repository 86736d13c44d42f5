"""What all language models share: texts begun and continued, tokens drawn, text as it comes."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.formats.base import Floats
from edgeq.formats.language import LanguageModel, choose
from tests.support.table_model import VOCABULARY, Table

token_lists = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20)


@given(token_lists, st.integers(1, 25))
def test_one_answer_however_the_text_reaches_the_cache(ids: list[int], piece: int) -> None:
    model = Table()
    whole = model.logits(ids)
    assert (whole.shape, whole.dtype) == ((len(ids), VOCABULARY), np.dtype(np.float32))
    np.testing.assert_array_equal(model.last_logits(ids, len(ids), piece), whole)
    for count in (1, len(ids) // 2 + 1):
        np.testing.assert_array_equal(model.last_logits(ids, count, piece), whole[-count:])
    last = model.prefill(ids[:1])
    for token in ids[1:]:
        last = model.step(token)
    np.testing.assert_array_equal(last, whole[-1])
    np.testing.assert_array_equal(model.logits(ids), whole)  # nothing is left of the last text


@given(
    st.lists(st.binary(max_size=4), min_size=VOCABULARY, max_size=VOCABULARY),
    st.integers(0, VOCABULARY - 1),
    st.integers(1, 40),
)
def test_what_is_streamed_is_the_text_of_the_tokens(
    pieces: list[bytes], first: int, count: int
) -> None:
    model = Table(pieces)
    drawn = list(model.draw([first], count))
    assert len(drawn) == count
    shown = list(model.generate(chr(97 + first), count))
    assert "".join(shown) == model.text(drawn)
    assert all(shown)


def test_a_character_is_shown_when_all_its_bytes_are_there() -> None:
    cut = "a鳥b".encode()
    model = Table([cut[i : i + 1] for i in range(len(cut))] * 5)
    assert list(model.decoded([0, 1, 2, 3, 4])) == ["a", "鳥", "b"]
    assert list(model.decoded([1, 2])) == ["\ufffd"]


def greedy(model: LanguageModel, first: int, count: int) -> list[int]:
    """By hand: the likeliest token behind all tokens so far, again and again."""
    ids = [first]
    for _ in range(count):
        ids.append(int(model.logits(ids)[-1].argmax()))
    return ids[1:]


@given(st.integers(0, VOCABULARY - 1), st.integers(1, 30))
def test_temperature_nought_takes_the_likeliest(first: int, count: int) -> None:
    model = Table()
    assert list(model.draw([first], count)) == greedy(model, first, count)


def test_an_end_token_ends_the_text_and_is_not_shown() -> None:
    written = greedy(Table(), 0, 30)
    end = written[5]
    kept = written[: written.index(end)]
    model = Table(ends=frozenset([end]))
    assert list(model.draw([0], 30)) == kept
    assert "".join(model.generate("a", 30)) == model.text(kept)


def test_a_seed_decides_what_is_drawn() -> None:
    texts = {
        seed: ["".join(Table().generate("a", 40, temperature=1.5, seed=seed)) for _ in range(2)]
        for seed in range(4)
    }
    assert all(first == again for first, again in texts.values())
    assert len({first for first, _ in texts.values()}) == 4


def test_tokens_are_drawn_as_often_as_their_scores_say() -> None:
    scores = np.array([0.0, 1.0, -1.0, 2.0, -np.inf], np.float32)
    temperature, draws = 0.7, 40_000
    weights = np.exp(scores.astype(np.float64) / temperature)
    expected = weights / weights.sum()
    rng = np.random.default_rng(7)
    counts = np.bincount([choose(scores, temperature, rng) for _ in range(draws)], minlength=5)
    errors = np.sqrt(draws * expected * (1 - expected))
    assert np.all(np.abs(counts - draws * expected) <= 5 * errors)


@given(st.integers(0, 2**32 - 1), st.floats(1e-300, 1e-6))
def test_a_tiny_temperature_is_greedy(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(VOCABULARY).astype(np.float32)
    assert choose(scores, temperature, rng) == int(scores.argmax())


def test_the_first_of_equals_is_taken() -> None:
    assert choose(np.array([1, 3, 3], np.float32), 0, np.random.default_rng(0)) == 1


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        ([], "none"),
        ([0, VOCABULARY], f"{VOCABULARY} is not one of"),
        ([-1], "-1 is not one of"),
        ([0.5], "float64"),
        ([[1, 2]], "shape"),
        ([0] * 65, "65 tokens do not fit"),
    ],
)
def test_ids_that_are_none_are_refused(ids: list[int], named: str) -> None:
    model = Table()
    for verb in (model.logits, model.prefill):
        with pytest.raises(InvalidInput, match=named):
            verb(ids)
    assert model.runs == 0


def test_a_full_context_is_an_error_and_never_shortened() -> None:
    model = Table(context=8)
    model.prefill([1] * 7)
    model.step(2)
    with pytest.raises(InvalidInput, match="0 of 8 positions are left"):
        model.step(3)
    model.runs = 0
    with pytest.raises(InvalidInput, match="5 prompt tokens and 4 more exceed the 8"):
        model.generate("abcde", 4)
    assert model.runs == 0
    assert len("".join(model.generate("abcd", 4))) == 4


@given(st.integers(2, 200), st.integers(1, 200))
def test_without_a_number_a_text_is_as_long_as_the_context_allows(context: int, used: int) -> None:
    model = Table(context=context)
    if used >= context:
        with pytest.raises(InvalidInput, match=f"{used} .* {context} positions"):
            model.generate("a" * used)
        return
    assert len("".join(model.generate("a" * used))) == min(128, context - used)


@given(st.lists(st.integers() | st.text(max_size=2) | st.floats() | st.none(), max_size=4))
def test_only_tokens_of_the_model_have_a_text(ids: list[Any]) -> None:
    model = Table()
    if all(isinstance(token, int) and 0 <= token < VOCABULARY for token in ids):
        assert model.text(ids) == "".join(chr(97 + token) for token in ids)
        return
    with pytest.raises(InvalidInput, match="token ids"):
        model.text(ids)


@pytest.mark.parametrize("token", [-1, VOCABULARY, 2**40, 2**70, "a", 0.0, None, [1]])
def test_what_is_no_token_has_no_piece(token: Any) -> None:
    with pytest.raises(InvalidInput, match="token ids"):
        Table().piece(token)


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": 2.5},
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": "a"},
        {"seed": -8},
        {"seed": "a"},
    ],
)
def test_options_that_make_no_text_are_refused_by_name(options: dict[str, Any]) -> None:
    model = Table()
    (name,) = options
    with pytest.raises(InvalidInput, match=f"^{name}: .* is no"):
        model.generate("a", **options)
    assert model.runs == 0


def test_all_options_that_are_none_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as raised:
        Table().generate("a", 0, temperature=-1, seed=-1)
    assert {problem.where for problem in raised.value.problems} == {
        "max_tokens",
        "temperature",
        "seed",
    }


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InvalidInput, match="prompt: is empty, and table adds no token"):
        Table().generate("")


@given(st.integers(1, 20), st.integers(1, 20))
def test_a_larger_context_is_advised_where_there_is_one(context: int, more: int) -> None:
    for longest, advised in ((context, False), (context + more, True)):
        model = Table(context=context, longest=longest)
        with pytest.raises(InvalidInput) as scored:
            model.logits([0] * (context + 1))
        with pytest.raises(InvalidInput) as drawn:
            model.draw([0], context)
        for raised in (scored, drawn):
            assert (f"larger context, {longest} at most" in str(raised.value)) is advised


def test_a_text_that_another_call_took_the_cache_from_does_not_go_on() -> None:
    model = Table()
    begun = model.generate("a", 10)
    next(begun)
    model.logits([1, 2])
    with pytest.raises(InvalidInput, match="another call began a text"):
        next(begun)


def test_a_text_that_was_not_begun_takes_nothing() -> None:
    model = Table()
    waiting = model.generate("a", 10)
    others = model.generate("b", 10)
    assert "".join(others) == model.text(greedy(Table(), 1, 10))
    assert "".join(waiting) == model.text(greedy(Table(), 0, 10))


def test_calls_from_several_threads_wait_for_each_other() -> None:
    model = Table()
    texts = [[(seed * 7 + i) % VOCABULARY for i in range(40)] for seed in range(6)]
    expected = [Table().logits(ids) for ids in texts]
    found: dict[int, Floats] = {}

    def run(index: int) -> None:
        for _ in range(5):
            found[index] = model.last_logits(texts[index], len(texts[index]), 1)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, logits in enumerate(expected):
        np.testing.assert_array_equal(found[index], logits)


def test_verbs_of_other_models_say_what_to_use() -> None:
    with pytest.raises(InvalidInput, match=r"is a language model: no embed\(\)\n.*logits\(\)"):
        Table().embed(["a text"])
    with pytest.raises(InvalidInput, match=r"no run\(\)"):
        Table().run({})
