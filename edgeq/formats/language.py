"""Language models: one interface and one sampling method for every runtime."""

from __future__ import annotations

import codecs
import math
import numbers
import threading
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import Artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.kv_cache import KvType
from edgeq.formats.base import Array, Floats, Model

Ids = npt.NDArray[np.int32]
MOST_TOKENS = 128
"""New tokens of a text for which no number is given, where the context has that many left."""
_PIECE = 256  # tokens of a long text whose logits are held at once


class LanguageModel(Model, ABC):
    """A decoder with its KV cache and tokenizer. One call runs at a time; other threads wait.

    Attributes: `vocabulary`, the number of tokens; `context`, the positions that the cache holds;
    `longest`, the positions that it was trained or built for; `end_tokens`, the tokens that end a
    text. Subclasses implement the five abstract methods; only `_append` runs the model.
    """

    kind = "a language model"
    verbs = "logits(), generate(), prefill() or step()"
    vocabulary: int
    context: int
    longest: int
    end_tokens: Container[int]
    cache_type: KvType = "f32"
    """The type of keys and values; subclasses with another one override it."""
    noise_piece = 1
    """How many tokens one run has where its rounding is measured: one, unless a run takes as long
    for many."""
    chat_template: str | None = None
    special_tokens: Mapping[str, Any] = MappingProxyType({})
    """Where the file has a template, which `edgeq.formats.chat` applies; and spellings for it."""

    def __init__(
        self,
        *,
        name: str,
        artifact: Artifact | None,
        runtime: str,
        threads: int,
        vocabulary: int,
        context: int,
        end_tokens: Container[int],
        longest: int | None = None,
    ) -> None:
        self.name, self.artifact = name, artifact
        self.runtime, self.threads = runtime, threads
        self.vocabulary, self.context, self.end_tokens = vocabulary, context, end_tokens
        self.longest = longest or context
        self._position = 0
        self._lock = threading.RLock()
        self._texts_begun = 0  # tells a generation that another call has taken over the cache

    @abstractmethod
    def tokens(self, text: str, special: bool = True) -> list[int]:
        """Tokenize `text`; `special` adds the tokens that the model expects, such as BOS.

        Special tokens that are spelled out in the text are recognised. Raises InvalidInput if
        `text` is not a string.
        """

    @abstractmethod
    def _piece(self, token_id: int) -> bytes:
        """`piece` of an id that is in the vocabulary."""

    @abstractmethod
    def cache_bytes(self, context: int) -> int:
        """Return the bytes of keys and values that the runtime allocates for `context`."""

    @abstractmethod
    def _append(self, token_ids: Ids, every: bool) -> Floats:
        """Run `token_ids` at the next positions of the cache.

        Returns the logits of each of them, float32 (n, vocabulary), or with `every` False those of
        the last, (1, vocabulary), in memory that no later call changes. They fit: `len(token_ids)`
        is 1 or more, and no more than what is left of `context`.
        """

    @abstractmethod
    def _clear(self) -> None:
        """Empty the cache, so that the next position is the first."""

    def piece(self, token_id: int) -> bytes:
        """Return a token's UTF-8 bytes, often part of a character; empty for a special token.

        Raises InvalidInput if the id is outside the vocabulary.
        """
        return self._piece(int(self._known(_array([token_id]))[0]))

    def text(self, token_ids: Sequence[int] | Array) -> str:
        """Turn `token_ids` into text; bytes that are not UTF-8 become U+FFFD.

        Raises InvalidInput if an id is outside the vocabulary.
        """
        ids = _array(token_ids)
        known = self._known(ids).tolist() if ids.size else []
        return b"".join(map(self._piece, known)).decode("utf-8", "replace")

    def logits(self, token_ids: Sequence[int] | Array) -> Floats:
        """Score the next token after every position: float32 (len(token_ids), vocabulary).

        Starts with an empty cache. Raises InvalidInput for no tokens, an id outside the
        vocabulary, or more tokens than `context`.
        """
        return self.last_logits(token_ids, None, self.context)

    def last_logits(
        self, token_ids: Sequence[int] | Array, count: int | None, piece: int = _PIECE
    ) -> Floats:
        """Compute the last `count` rows of `logits`, None for all; others take no memory.

        piece: how many tokens at a time go through the KV cache. The result is equal in exact
        arithmetic. Sums are taken in another order, so the difference shows how much of a distance
        between two models is rounding.
        """
        with self._lock:
            ids = self._begin(token_ids)
            first, parts = len(ids) - (count or len(ids)), []
            for start in range(0, len(ids), piece):
                rows = self._forward(ids[start : start + piece], every=True)
                if start + len(rows) > first:  # an empty slice would keep its rows in memory
                    parts.append(rows[max(0, first - start) :])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def prefill(self, token_ids: Sequence[int] | Array) -> Floats:
        """Start a new text and score the token after `token_ids`: float32 (vocabulary,)."""
        with self._lock:
            result: Floats = self._forward(self._begin(token_ids), every=False)[0]
        return result

    def step(self, token_id: int) -> Floats:
        """Append one token to the text started by `prefill`; scores the next: float32
        (vocabulary,).

        Raises InvalidInput when `context` is full.
        """
        with self._lock:
            result: Floats = self._forward(self._next(token_id), every=False)[0]
        return result

    def generate(
        self,
        prompt: str,
        max_tokens: int | None = None,
        *,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Continue `prompt` as it is, without a chat template; yields text as it comes.

        Stops at an end token, which is not shown, or after `max_tokens`; without it after 128, or
        when `context` is full. Temperature 0 takes the most likely token (the first if several are
        equal). Above 0, tokens are drawn from softmax(logits / temperature); the same logits and
        `seed` give the same text. A character is yielded once all of its bytes have arrived. Raises
        InvalidInput, before anything runs, for an invalid option or if prompt and `max_tokens`
        together exceed `context`.
        """
        return self.decoded(self.draw(self.prompt_tokens(prompt), max_tokens, temperature, seed))

    def prompt_tokens(self, prompt: str) -> list[int]:
        """Tokenize a text to continue; raises InvalidInput if that gives no tokens."""
        ids = self.tokens(prompt)
        if not ids:
            what = f"is empty, and {self.name} adds no token before a text"
            raise InvalidInput(Problem("prompt", what, "give a text of a letter or more"))
        return ids

    def draw(
        self,
        token_ids: Sequence[int] | Array,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[int]:
        """Yield the tokens after `token_ids`, sampled as in `generate`, computed one at a time.

        If another text is started meanwhile, the next token raises InvalidInput.
        """
        ids = self._checked(token_ids, self.context)
        if max_tokens is None:
            max_tokens = fitting_tokens(MOST_TOKENS, self.context - len(ids))
        _check_sampling(max_tokens, temperature, seed)
        if len(ids) + max_tokens > self.context:
            what = (
                f"{len(ids)} prompt tokens and {max_tokens} more exceed the {self.context} "
                f"positions it was opened for"
            )
            remedy = "shorten the prompt or lower max_tokens" + self._or_larger()
            raise InvalidInput(Problem(self.name, what, remedy))
        return self._drawn(ids, max_tokens, temperature, np.random.default_rng(seed))

    def decoded(self, token_ids: Iterable[int]) -> Iterator[str]:
        """Yield the text of tokens as they come, in whole characters; never an empty string."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in token_ids:
            if shown := decoder.decode(self.piece(token)):
                yield shown
        if shown := decoder.decode(b"", final=True):
            yield shown

    def _drawn(
        self, ids: Ids, count: int, temperature: float, rng: np.random.Generator
    ) -> Iterator[int]:
        with self._lock:
            scores = self.prefill(ids)
            text = self._texts_begun
        for left in range(count - 1, -1, -1):
            token = choose(scores, temperature, rng)
            if token in self.end_tokens:
                return
            yield token
            if left == 0:
                return
            with self._lock:
                if text != self._texts_begun:
                    what = "another call began a text while this one was generated"
                    raise InvalidInput(Problem(self.name, what, "finish one text, then begin"))
                scores = self.step(token)

    def _begin(self, token_ids: Sequence[int] | Array) -> Ids:
        ids = self._checked(token_ids, self.context)
        self._clear()
        self._position = 0
        self._texts_begun += 1
        return ids

    def _forward(self, ids: Ids, *, every: bool) -> Floats:
        result = self._append(ids, every)
        self._position += len(ids)
        return result

    def _next(self, token_id: int) -> Ids:
        """`token_id` as int32 (1,), or InvalidInput."""
        room = self.context - self._position
        # Checking arrays would take a twentieth of a small model's step.
        if type(token_id) is int and 0 <= token_id < self.vocabulary and room > 0:
            return np.array([token_id], np.int32)
        return self._checked([token_id], room)

    def _checked(self, token_ids: Sequence[int] | Array, room: int) -> Ids:
        """`token_ids` as int32 (n,), n from 1 to `room`, or InvalidInput."""
        ids = _array(token_ids)
        if ids.size == 0:
            remedy = "give one or more; this model puts none in front of an empty text"
            raise InvalidInput(Problem("token ids", "there are none", remedy))
        ids = self._known(ids)
        if len(ids) > room:
            what = f"{len(ids)} tokens do not fit: {room} of {self.context} positions are left"
            raise InvalidInput(Problem(self.name, what, "give fewer tokens" + self._or_larger()))
        return ids.astype(np.int32)

    def _or_larger(self) -> str:
        """The advice to load the model with a larger context, if it supports one."""
        if self.context >= self.longest:
            return ""
        return f", or load the model with a larger context, {self.longest} at most"

    def _known(self, ids: Array) -> Array:
        """`ids`, integers of shape (n,) that are all in the vocabulary, or InvalidInput."""
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            what = f"are {ids.dtype} of shape {ids.shape}"
            raise InvalidInput(Problem("token ids", what, "give a list of int, one or more"))
        wrong = ids[(ids < 0) | (ids >= self.vocabulary)]
        if len(wrong):
            what = f"{wrong[0]} is not one of the model's {self.vocabulary} tokens"
            raise InvalidInput(Problem("token ids", what, "take them from tokens()"))
        return ids


def fitting_tokens(default: int, room: int) -> int:
    """The new tokens of a text for which no number is given: `default`, or `room` if that is less.

    1 where there is no room, so that the prompt is refused.
    """
    return max(1, min(default, room))


def _array(token_ids: Sequence[int] | Array) -> Array:
    try:
        return np.asarray(token_ids)
    except ValueError:  # lists of different lengths
        what = "are lists in a list"
        raise InvalidInput(Problem("token ids", what, "give a list of int")) from None


def _check_sampling(max_tokens: int, temperature: float, seed: int) -> None:
    """Raise InvalidInput for each invalid option."""
    counts = {"max_tokens": (max_tokens, 1), "seed": (seed, 0)}
    problems = [
        Problem(name, f"{value!r} is not an integer of at least {least}", f"give {least} or more")
        for name, (value, least) in counts.items()
        if not isinstance(value, numbers.Integral) or value < least
    ]
    is_number = isinstance(temperature, numbers.Real)
    if not is_number or not math.isfinite(temperature) or temperature < 0:
        what = f"{temperature!r} is not a number of at least 0"
        problems.append(Problem("temperature", what, "give 0 for the likeliest, 1 to draw"))
    if problems:
        raise InvalidInput(problems)


def choose(scores: Floats, temperature: float, rng: np.random.Generator) -> int:
    """A token for `scores` (vocabulary,): the first of the largest, or drawn at `temperature`.

    One number of `rng` is used per token, on the cumulative probabilities in token order.
    """
    if temperature == 0:
        return int(scores.argmax())
    scaled = scores.astype(np.float64)
    with np.errstate(over="ignore"):  # at a tiny temperature the others' differences overflow
        weights = np.exp((scaled - scaled.max()) / temperature)
    reached = np.cumsum(weights)
    place = int(np.searchsorted(reached, rng.random() * reached[-1], side="right"))
    return min(place, len(scores) - 1)  # a product that was rounded up to the sum
