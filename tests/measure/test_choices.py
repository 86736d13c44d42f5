"""Multiple-choice questions are scored as transformers and the definition of the harness say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the build side is not installed")
transformers = pytest.importorskip("transformers", reason="the build side is not installed")

from edgeq.core.errors import InvalidInput  # noqa: E402
from edgeq.formats import transformers_model  # noqa: E402
from edgeq.measure.choices import answered, continuations, likelihoods  # noqa: E402
from edgeq.recipe.question_sets import Question, read_questions  # noqa: E402
from tests.support.decoder_artifacts import WREN  # noqa: E402

QUESTIONS = (
    Question(
        question="The President of the United",
        choices=("States", "whale", "of the of the kettle"),
        answer=0,
    ),
    Question(question="Captain Ahab looked at the", choices=("sea", "motion picture"), answer=1),
    Question(
        question='"I am very glad to hear it," said',
        choices=("Elizabeth", "Congress and the Treasury", "the"),
        answer=0,
    ),
)


def independent(question: Question) -> list[float]:
    """Token by token, from the loss of transformers."""
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(WREN / "tokenizer.json"))
    network = transformers.AutoModelForCausalLM.from_pretrained(WREN, dtype=torch.float32).eval()
    start = len(tokenizer(question.question)["input_ids"])
    found = []
    for choice in question.choices:
        ids = torch.tensor([tokenizer(f"{question.question} {choice}")["input_ids"]])
        labels = ids.clone()
        labels[:, :start] = -100  # not scored
        with torch.inference_mode():
            loss = network(ids, labels=labels).loss
        found.append(-float(loss) * (ids.shape[1] - start))
    return found


def test_likelihoods_are_those_of_transformers() -> None:
    model = transformers_model.load(WREN, threads=1)
    asked = continuations(model.tokens, QUESTIONS, 256, "questions")
    found = list(likelihoods(model.logits, asked))
    for own, question in zip(found, QUESTIONS, strict=True):
        assert own == pytest.approx(independent(question), abs=1e-3)


def test_answers_are_the_likeliest_by_sum_and_by_character() -> None:
    own = [np.array([-1.0, -2.0, -9.0]), np.array([-3.0, -5.0]), np.array([-4.0, -6.0, -0.9])]
    original = [np.array([-1.0, -2.0, -9.0]), np.array([-5.0, -3.0]), np.array([-1.0, -6.0, -3.0])]
    found = answered(QUESTIONS, own, original)
    assert (found.accuracy().value, found.accuracy().original) == pytest.approx((1 / 3, 1))
    # By character: -3 / 3 against -5 / 14 is right, -4 / 9 against -6 / 25 and -0.9 / 3 wrong.
    assert found.normalized().value == pytest.approx(2 / 3)
    assert found.drop().value == pytest.approx(2 / 3)


def test_a_repeated_question_tells_nothing_new() -> None:
    rows = [np.array([0.0, -1.0, -1.0])] * 4
    assert answered((QUESTIONS[0],) * 4, rows, rows).drop().samples == 1


def test_a_question_longer_than_the_context_is_named() -> None:
    model = transformers_model.load(WREN, threads=1)
    with pytest.raises(InvalidInput, match=r"'The President of the United' has .* tokens, over 4"):
        continuations(model.tokens, QUESTIONS, 4, "questions")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"question": "a", "choices": ["b"], "answer": 0}, "has 1 choices"),
        ({"question": "a", "choices": ["b", "b"], "answer": 0}, "has 2 choices"),
        ({"question": "a", "choices": ["b", "c"], "answer": 2}, "and the answer 2"),
        ({"question": "a", "choices": ["b", "c"], "answer": "b"}, "is not a question"),
        ({"question": "a", "choices": ["b", ""], "answer": 0}, "is not a question"),
        ({"question": "a"}, "is not a question"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, row: object, what: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(f"{QUESTIONS[0].model_dump_json()}\n\n{json.dumps(row)}\n")
    with pytest.raises(InvalidInput, match=what) as raised:
        read_questions(path)
    assert raised.value.problems[0].where == f"{path}:3"
