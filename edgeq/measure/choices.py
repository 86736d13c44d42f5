"""Multiple-choice questions: a language model chooses the likeliest continuation.

Scored as EleutherAI's evaluation harness does. A choice follows the question and a space; its
tokens are those of both together that follow as many as the question alone has. Its score is the
sum of their log-likelihoods: the choice with the highest is the answer ("acc"). Divided by the
choice's number of characters, it does not prefer short choices ("acc_norm").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import Continuation
from edgeq.measure.metrics import drop_of, share_of
from edgeq.measure.records import Score
from edgeq.measure.scoring import log_softmax
from edgeq.recipe.question_sets import Question

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answered:
    """Different questions, with a log-likelihood of each choice: the artifact's, the original's."""

    questions: tuple[Question, ...]
    own: tuple[Doubles, ...]
    original: tuple[Doubles, ...]

    def accuracy(self) -> Score:
        """The share of right answers."""
        return share_of(self._right(by_length=False), len(self.questions))

    def normalized(self) -> Score:
        """The same, with log-likelihoods for each character of a choice."""
        return share_of(self._right(by_length=True), len(self.questions))

    def drop(self) -> Score:
        """The original's accuracy minus the artifact's."""
        return drop_of(self._right(by_length=False), len(self.questions))

    def _right(self, *, by_length: bool) -> tuple[Doubles, Doubles]:
        own, original = (
            np.array(
                [
                    (scores / (_lengths(each) if by_length else 1)).argmax() == each.answer
                    for each, scores in zip(self.questions, found, strict=True)
                ],
                np.float64,
            )
            for found in (self.own, self.original)
        )
        return own, original


def answered(
    questions: Sequence[Question], own: Iterable[Doubles], original: Iterable[Doubles]
) -> Answered:
    """The answers to different questions; a repeated one counts once."""
    found = {each: (a, b) for each, a, b in zip(questions, own, original, strict=True)}
    return Answered(
        tuple(found),
        tuple(np.asarray(a, np.float64) for a, _ in found.values()),
        tuple(np.asarray(b, np.float64) for _, b in found.values()),
    )


def continuations(
    tokens: Callable[[str, bool], list[int]],
    questions: Sequence[Question],
    longest: int,
    where: str,
) -> tuple[tuple[Continuation, ...], ...]:
    """The tokens of each choice after its question, by `tokens(text, special)`.

    Raises InvalidInput, naming the question, for one of more than `longest` tokens, and for a
    choice without tokens of its own.
    """
    found, first = [], first_token(tokens)
    for each in questions:
        start = len([*first, *tokens(each.question, False)])
        whole = [[*first, *tokens(f"{each.question} {choice}", False)] for choice in each.choices]
        if start < 1 or min(map(len, whole)) <= start:
            what = f"{each.question[:60]!r}: a choice has no token of its own"
            raise InvalidInput(Problem(where, what, "write the question without its last word"))
        if max(map(len, whole)) > longest:
            what = f"{each.question[:60]!r} has {max(map(len, whole))} tokens, over {longest}"
            raise InvalidInput(
                Problem(where, what, "shorten it, or write a larger workload.context")
            )
        found.append(tuple((tuple(ids), start) for ids in whole))
    return tuple(found)


def first_token(tokens: Callable[[str, bool], list[int]]) -> list[int]:
    """The token that a tokenizer puts in front of a text; none if it puts nothing there."""
    with_special, plain = tokens("a", True), tokens("a", False)
    return with_special[:1] if with_special[0] != plain[0] else []


def likelihoods(
    logits: Callable[[Sequence[int]], Floats], asked: Sequence[Sequence[Continuation]]
) -> Iterator[npt.NDArray[Any]]:
    """For each question, the log-likelihood of each choice: float64 (choices,).

    logits: of every position of a text.
    """
    for question in asked:
        yield np.array([_likelihood(logits(ids), ids, start) for ids, start in question])


def _likelihood(rows: Floats, ids: Sequence[int], start: int) -> float:
    chances = log_softmax(np.asarray(rows[start - 1 : -1]), "the logits of a choice")
    return float(chances[np.arange(len(chances)), list(ids[start:])].sum())


def _lengths(question: Question) -> Doubles:
    return np.array([len(choice) for choice in question.choices], np.float64)
