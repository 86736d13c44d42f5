"""Two language models answer one prompt: both texts, their first difference, and probabilities."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import Progress
from edgeq.formats.base import Floats
from edgeq.formats.language import LanguageModel, fitting_tokens
from edgeq.measure.same_tokens import same_tokens
from edgeq.pipeline.compare.compare import Opened, Side

_MOST_TOKENS = 64  # of an answer, where both contexts have that many left


class Completion(Frozen):
    """One model's continuation of the prompt, and its speed."""

    side: Side
    text: str
    common: int = Field(description="Length of the common part of the text, in characters.")
    parted: int = Field(description="Characters up to the end of the first differing token.")
    tokens: int
    first_token_seconds: float = Field(description="Time from the prompt to the first token.")
    tokens_per_second: float | None = Field(
        description="Speed after the first token; None without further tokens."
    )


class TokenProbability(Frozen):
    """A token, and its probability under each model."""

    text: str = Field(description="The token's text; empty for the end of the text.")
    a: float
    b: float


class FirstDifference(Frozen):
    """The first position at which the two models choose different tokens."""

    token: int = Field(description="Number of common tokens after the prompt.")
    of_a: TokenProbability = Field(description="The token that A chose.")
    of_b: TokenProbability


class SideBySide(Frozen):
    """Two models' answers to one prompt, each by greedy decoding."""

    prompt: str
    a: Completion
    b: Completion
    parting: FirstDifference | None = Field(description="None if both answers are equal.")


@dataclass
class _Voice:
    """One model in the middle of its answer. ended: its next token is the end of the text."""

    model: LanguageModel
    ids: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    ended: bool = False

    def begin(self, prompt: list[int]) -> Floats:
        return self._timed(lambda: self.model.prefill(prompt))

    def go_on(self, token: int) -> Floats:
        self.ids.append(token)
        return self._timed(lambda: self.model.step(token))

    def finish(self, scores: Floats, most: int) -> None:
        """Decode greedily until the text ends or has `most` tokens."""
        while True:
            token = int(scores.argmax())
            if token in self.model.end_tokens:
                self.ended = True
                return
            if len(self.ids) + 1 == most:
                self.ids.append(token)
                return
            scores = self.go_on(token)

    def _timed(self, work: Callable[[], Floats]) -> Floats:
        start = time.perf_counter()
        scores = work()
        self.seconds.append(time.perf_counter() - start)
        return scores


def side_by_side(
    a: Opened,
    b: Opened,
    prompt: str,
    max_tokens: int | None = None,
    progress: Progress = lambda step: None,
) -> SideBySide:
    """Let both models continue `prompt` greedily, up to `max_tokens`.

    max_tokens: None for 64, or what the prompt leaves of the smaller context if that is less.
    Raises InvalidInput for models that are not language models with one tokenizer, and for a prompt
    that is empty or too long.
    """
    models = [_speaker(each) for each in (a, b)]
    _, ids = same_tokens(models, (a.path, b.path), prompt)
    room = min(model.context for model in models)
    if max_tokens is None:
        max_tokens = fitting_tokens(_MOST_TOKENS, room - len(ids))
    _check(room, ids, max_tokens)
    voices = [_Voice(model) for model in models]
    scores = [voice.begin(ids) for voice in voices]
    difference = None
    while difference is None and len(voices[0].ids) < max_tokens:
        progress(f"token {len(voices[0].ids) + 1} of at most {max_tokens}")
        chosen = [int(each.argmax()) for each in scores]
        ends = [token in model.end_tokens for token, model in zip(chosen, models, strict=True)]
        if chosen[0] != chosen[1]:
            difference = _parting(models[0], len(voices[0].ids), chosen, ends, scores)
        elif all(ends):
            break
        elif len(voices[0].ids) + 1 == max_tokens:
            for voice, token in zip(voices, chosen, strict=True):
                voice.ids.append(token)
        else:
            scores = [v.go_on(token) for v, token in zip(voices, chosen, strict=True)]
    if difference is not None:
        for voice, own in zip(voices, scores, strict=True):
            progress(f"{voice.model.name}: the rest of its answer")
            voice.finish(own, max_tokens)
    at = difference.token if difference else len(voices[0].ids)
    completions = [_spoken(each, voice, at) for each, voice in zip((a, b), voices, strict=True)]
    return SideBySide(prompt=prompt, a=completions[0], b=completions[1], parting=difference)


def _speaker(opened: Opened) -> LanguageModel:
    if not isinstance(opened.model, LanguageModel):
        remedy = "compare encoders on sentences: --text FILE"
        problem = Problem("--prompt", f"{opened.path} is {opened.model.kind}", remedy)
        raise InvalidInput(problem)
    return opened.model


def _check(room: int, ids: list[int], max_tokens: int) -> None:
    if max_tokens < 1:
        raise InvalidInput(
            Problem("--max-tokens", f"{max_tokens} is not a positive number", "give 1 or more")
        )
    if not ids:
        raise InvalidInput(Problem("--prompt", "is empty", "give a text of one character or more"))
    if len(ids) + max_tokens > room:
        what = f"{len(ids)} prompt tokens and {max_tokens} more exceed {room} positions"
        raise InvalidInput(Problem("--prompt", what, "shorten it, or lower --max-tokens"))


def _parting(
    model: LanguageModel, at: int, chosen: list[int], ends: list[bool], scores: list[Floats]
) -> FirstDifference:
    likely = [_probabilities(each) for each in scores]
    chances = [
        TokenProbability(
            text="" if end else model.text([token]),
            a=float(likely[0][token]),
            b=float(likely[1][token]),
        )
        for token, end in zip(chosen, ends, strict=True)
    ]
    return FirstDifference(token=at, of_a=chances[0], of_b=chances[1])


def _probabilities(scores: Floats) -> Floats:
    wide = scores.astype(np.float64)
    weights = np.exp(wide - wide.max())
    found: Floats = weights / weights.sum()
    return found


def _spoken(opened: Opened, voice: _Voice, at: int) -> Completion:
    """at: number of tokens that both models have."""
    model = voice.model
    text = model.text(voice.ids)
    # A token may end within a character; then a part of the text lacks a character that the whole
    # has.
    lengths = [len(model.text(voice.ids[:end]).rstrip("\ufffd")) for end in (at, at + 1)]
    behind = voice.seconds[1:]
    return Completion(
        side=opened.side,
        text=text,
        common=lengths[0],
        parted=lengths[1],
        tokens=len(voice.ids),
        first_token_seconds=voice.seconds[0],
        tokens_per_second=len(behind) / sum(behind) if behind else None,
    )
