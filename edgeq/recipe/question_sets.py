"""Multiple-choice questions for language models.

A line of a `.jsonl` is `{"question": "The sky is", "choices": ["blue", "of tin"], "answer": 0}`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.recipe.data_sets import JSON_SUFFIX
from edgeq.recipe.samples import chosen_rows
from edgeq.recipe.text_files import read_json_lines

_EXAMPLE = '{"question": "The sky is", "choices": ["blue", "of tin"], "answer": 0}'


class Question(Frozen):
    """A question and its choices; answer: the position of the right one."""

    question: str
    choices: tuple[str, ...]
    answer: int


def read_questions(path: Path, samples: int | None = None) -> tuple[Question, ...]:
    """The questions of a `.jsonl`; `samples` of them, chosen as by `read_texts`.

    Raises InvalidInput for other files and for lines that are no question.
    """
    if path.suffix != JSON_SUFFIX:
        what = f"must end in {JSON_SUFFIX}"
        raise InvalidInput(Problem(str(path), what, f"write one on each line: {_EXAMPLE}"))
    rows = [(f"{path}:{line}", row) for line, row in read_json_lines(path)]
    return tuple(_question(*rows[index]) for index in chosen_rows(path, len(rows), samples))


def _question(where: str, row: dict[str, Any]) -> Question:
    question, choices, answer = (row.get(key) for key in ("question", "choices", "answer"))
    fits = isinstance(question, str) and isinstance(choices, list) and type(answer) is int
    if not fits or not all(isinstance(each, str) and each.strip() for each in choices or [""]):
        what = "is not a question with choices and the position of the right one"
        raise InvalidInput(Problem(where, what, f"write e.g. {_EXAMPLE}"))
    assert isinstance(choices, list) and isinstance(answer, int)
    if len(set(choices)) != len(choices) or not 0 <= answer < len(choices) or len(choices) < 2:
        what = f"has {len(choices)} choices, and the answer {answer}"
        remedy = "give two or more different choices; the first is 0"
        raise InvalidInput(Problem(where, what, remedy))
    return Question(question=str(question), choices=tuple(choices), answer=answer)
