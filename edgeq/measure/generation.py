"""Time a language model: a prompt to the first token, then token after token, repeatedly."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgeq.core.terms import Effort
from edgeq.formats.language import Ids, LanguageModel
from edgeq.measure.bystanders import Bystanders
from edgeq.measure.latency import WARMUP_RUNS
from edgeq.measure.order_statistics import quantile
from edgeq.measure.records import Conditions, Generation, Rate, Sustained
from edgeq.measure.sequential import Limit, settle, tails

QUICK_TEXTS, QUICK_SECONDS = 128, 10.0
FULL_TEXTS, FULL_SECONDS = 64, 60.0
LEAST_TEXTS = 6
"""Fewer give no 95 % interval of their median: 2·½⁶ is 3 %."""


@dataclass(frozen=True)
class Targets:
    """Limits on the time to the first token, and on that of the later tokens of a text."""

    first: tuple[Limit, ...] = ()
    rest: tuple[Limit, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Seconds, text after text: to each first token, and to each later one.

    The last prompts may have no text after them. looks, text_looks: how many prompts and texts
    there were each time the targets were tested. disturbed: from `Bystanders`.
    """

    first: list[float]
    tokens: list[list[float]]
    looks: tuple[int, ...] = ()
    text_looks: tuple[int, ...] = ()
    disturbed: dict[str, object] = field(default_factory=dict)


def targets(limits: Mapping[str, float], prompt: int, count: int) -> Targets:
    """Budgets by key, for a prompt of this many tokens and this many generated ones."""
    first = [Limit(0.9, limits["first_token"])] if "first_token" in limits else []
    if "prompt" in limits:
        first.append(Limit(0.5, prompt / limits["prompt"]))
    rest = [Limit(0.5, count / limits["generation"])] if "generation" in limits else []
    return Targets(tuple(first), tuple(rest))


def time_texts(
    model: LanguageModel,
    prompt: Ids,
    count: int,
    effort: Effort,
    wanted: Targets = Targets(),
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Start texts with the ids in `prompt`, and generate a first token and `count` more in each.

    Greedily, and past end tokens, so that all texts have equal length. Each starts with an empty
    cache. Warms up with several prompts and one text; then quick: 128 texts or 10 s, but at least
    6; full: 64 texts and 60 s. Then more, see `edgeq.measure.sequential`: texts until their limits
    are decided, and prompts alone for the rest. `clock` gives seconds.
    """
    for _ in range(WARMUP_RUNS - 1):
        model.prefill(prompt)
    one_text(model, prompt, count, clock)
    first: list[float] = []
    tokens: list[list[float]] = []
    totals: list[float] = []

    def take_text() -> None:
        seconds, rest = one_text(model, prompt, count, clock)
        first.append(seconds)
        tokens.append(rest)
        totals.append(sum(rest))

    def take_prompt() -> None:
        first.append(one_text(model, prompt, 0, clock)[0])

    bystanders = Bystanders()
    begin = clock()
    while not _is_enough(len(first), clock() - begin, effort):
        take_text()
    text_looks = settle(totals, wanted.rest, take_text, effort, clock)
    looks = settle(first, wanted.first, take_prompt, effort, clock)
    return Timing(first, tokens, looks, text_looks, bystanders.seen())


def one_text(
    model: LanguageModel, prompt: Ids, count: int, clock: Callable[[], float]
) -> tuple[float, list[float]]:
    """Seconds to the first token after a prompt, and of each of `count` more."""
    start = clock()
    token = int(model.prefill(prompt).argmax())
    now = clock()
    first = now - start
    rest: list[float] = []
    for _ in range(count):
        token = int(model.step(token).argmax())
        start, now = now, clock()
        rest.append(now - start)
    return first, rest


def _is_enough(texts: int, elapsed: float, effort: Effort) -> bool:
    if effort == "quick":
        return texts >= QUICK_TEXTS or (texts >= LEAST_TEXTS and elapsed >= QUICK_SECONDS)
    return texts >= FULL_TEXTS and elapsed >= FULL_SECONDS


def summarise(
    timing: Timing,
    prompt_tokens: int,
    load_seconds: float,
    conditions: Conditions,
    compiled_load_seconds: float | None = None,
    sustained: Sustained | None = None,
) -> Generation:
    """Summarize the times of `timing`; speeds are judged per text.

    The loading times and `sustained` are as in `Generation`.
    """
    generated = len(timing.tokens[0])
    every = [seconds for text in timing.tokens for seconds in text]
    return Generation(
        load_seconds=load_seconds,
        compiled_load_seconds=compiled_load_seconds,
        prompt_tokens=prompt_tokens,
        generated_tokens=generated,
        texts=len(timing.tokens),
        looks=timing.looks,
        text_looks=timing.text_looks,
        first_token_seconds=tuple(timing.first),
        token_seconds=tuple(every),
        first_token_p50=quantile(timing.first, 0.5, tails(0.5, timing.looks)),
        first_token_p90=quantile(timing.first, 0.9, tails(0.9, timing.looks)),
        token_p50=quantile(every, 0.5),
        token_p90=quantile(every, 0.9),
        prompt_speed=rate(prompt_tokens, timing.first, timing.looks),
        generation_speed=rate(generated, list(map(sum, timing.tokens)), timing.text_looks),
        sustained=sustained,
        conditions=conditions,
    )


def rate(tokens: int, seconds: Sequence[float], looks: Sequence[int] = ()) -> Rate:
    """Tokens per second at the median of `seconds`, each the time of `tokens`."""
    median = quantile(seconds, 0.5, tails(0.5, looks))
    slowest, fastest = median.high_seconds, median.low_seconds
    return Rate(
        tokens_per_second=tokens / median.seconds,
        low_tokens_per_second=tokens / slowest if slowest is not None else 0.0,
        high_tokens_per_second=tokens / fastest if fastest > 0 else None,
    )
