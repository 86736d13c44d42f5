"""Two language models on one prompt: their texts, where they part, how likely both found it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.formats.base import Model
from edgeq.pipeline.compare.compare import Opened, Side
from edgeq.pipeline.compare.side_by_side import (
    Completion,
    FirstDifference,
    SideBySide,
    TokenProbability,
    side_by_side,
)
from edgeq.pipeline.compare.workflow import CompareOptions
from edgeq.report.console import make_console
from edgeq.report.side_by_side import print_side_by_side
from tests.support.table_model import Table


def opened(model: Model, name: str = "a") -> Opened:
    return Opened(Path(name), model)


def greedy(model: Table, prompt: str, most: int) -> list[int]:
    return list(model.draw(model.tokens(prompt), most))


@given(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 9), st.integers(1, 20))
def test_each_answer_is_the_model_s_own(prompt: str, seed: int, most: int) -> None:
    """Going side by side up to the parting changes neither answer."""
    ends = frozenset({3})
    pair = [Table(seed=seed, ends=ends), Table(seed=seed + (seed > 2), ends=ends)]
    found = side_by_side(opened(pair[0]), opened(pair[1], "b"), prompt, most)
    alone = [greedy(model, prompt, most) for model in pair]
    texts = [model.text(ids) for model, ids in zip(pair, alone, strict=True)]
    assert [found.a.text, found.b.text] == texts
    assert [found.a.tokens, found.b.tokens] == [len(ids) for ids in alone]
    if found.parting is None:
        assert alone[0] == alone[1]
        return
    at = found.parting.token
    assert alone[0][:at] == alone[1][:at]
    assert alone[0][at : at + 1] != alone[1][at : at + 1]
    assert texts[0][: found.a.common] == texts[1][: found.b.common]
    for model, chance in ((0, found.parting.of_a), (1, found.parting.of_b)):
        assert texts[model][found.a.common :].startswith(chance.text)
        assert (chance.text == "") == (len(alone[model]) == at)


@pytest.mark.parametrize(("contexts", "tokens"), [((300, 200), 64), ((300, 24), 20)])
def test_without_a_number_answers_fit_the_smaller_context(
    contexts: tuple[int, int], tokens: int
) -> None:
    pair = [Table(context=context) for context in contexts]
    found = side_by_side(opened(pair[0]), opened(pair[1], "b"), "abcd")
    assert found.a.tokens == found.b.tokens == tokens
    with pytest.raises(InvalidInput, match=f"{contexts[1]} prompt tokens and 1 more exceed"):
        side_by_side(opened(pair[0]), opened(pair[1], "b"), "a" * contexts[1])


def test_the_probabilities_are_the_models_own() -> None:
    pair = [Table(seed=1), Table(seed=2)]
    found = side_by_side(opened(pair[0]), opened(pair[1], "b"), "abc", 20)
    assert found.parting is not None
    common = pair[0].tokens("abc" + found.a.text[: found.a.common])
    for name, model in zip("ab", pair, strict=True):
        scores = model.prefill(common).astype(np.float64)
        likely = np.exp(scores) / np.exp(scores).sum()
        for chance in (found.parting.of_a, found.parting.of_b):
            (token,) = model.tokens(chance.text)
            assert getattr(chance, name) == pytest.approx(likely[token])
    assert found.parting.of_a.a > found.parting.of_b.a
    assert found.parting.of_b.b > found.parting.of_a.b


def test_what_cannot_be_put_side_by_side() -> None:
    pair = opened(Table(context=16)), opened(Table(), "b")
    for most, prompt, said in (
        (14, "abc", "16 positions"),
        (0, "abc", "positive"),
        (4, "", "empty"),
    ):
        with pytest.raises(InvalidInput, match=said):
            side_by_side(*pair, prompt, most)
    found = side_by_side(*pair, "abc", 13)
    assert (found.parting, found.a.tokens) == (None, 13)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"text": Path("t"), "prompt": "a"},
        {"text": Path("t"), "max_tokens": 3},
        {"prompt": "a", "window": 8},
    ],
    ids=str,
)
def test_an_option_without_effect_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="--"):
        CompareOptions(**options)  # type: ignore[arg-type]


def shown(found: SideBySide) -> list[str]:
    file = io.StringIO()
    print_side_by_side(found, make_console(file))
    return file.getvalue().splitlines()


def spoken(path: str, text: str, common: int, parted: int) -> Completion:
    return Completion(
        side=Side(path=path, runtime="numpy", threads=1),
        text=text,
        common=common,
        parted=parted,
        tokens=9,
        first_token_seconds=0.0124,
        tokens_per_second=812.0,
    )


def test_columns_fit_and_the_parting_is_marked() -> None:
    long = "recipes/" + "a-name-that-is-long/" * 4
    text = " it was a dark night, and the [whale] said:\nnothing at all " * 3
    found = SideBySide(
        prompt="One day",
        a=spoken(long, text, 9, 14),
        b=spoken("b.gguf", text[:9], 9, 9),
        parting=FirstDifference(
            token=3,
            of_a=TokenProbability(text=" dark", a=0.61, b=0.2),
            of_b=TokenProbability(text="", a=0.1, b=0.4),
        ),
    )
    lines = shown(found)
    whole = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    assert "\x1b" not in whole
    assert "it was a ▶dark night" in whole
    assert "it was a▶(end)" in whole
    assert "They diverge at token 4" in whole
    assert any(line.split() == ["A:", "'", "dark'", "61.0%", "20.0%"] for line in lines)
    assert any(line.split() == ["B:", "the", "end", "10.0%", "40.0%"] for line in lines)
    assert " ".join(whole.split()).count("(measured") == 2  # speeds say what they are
    by = found.b.side.model_copy(update={"is_reference": True})
    stood_in = found.model_copy(update={"b": found.b.model_copy(update={"side": by})})
    assert "by numpy)" in " ".join("\n".join(shown(stood_in)).split())
    same = found.model_copy(update={"parting": None, "b": found.a})
    assert "▶" not in "\n".join(shown(same))
    assert "Both write the same 9 tokens." in "\n".join(shown(same))
