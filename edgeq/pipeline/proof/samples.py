"""Samples that reveal a misread model: short and long texts, beyond every window and switch."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.core.tasks import Task
from edgeq.core.terms import TextOrPair
from edgeq.models.architectures import Decoder
from edgeq.pipeline.proof.request import TextSample

TEXTS = (
    "A dog runs.",
    "The committee will publish its report on the 14th of March, after two years of work.",
    "Café, naïve, 東京, ½ cup & 3.14 — punctuation; UPPER CASE and a_snake_case_name(42)!",
)
"""For models without calibration texts, and always in addition to them."""
_STEPS = 6
_SHORT = 40  # tokens: rotary angles of any base differ by then
_LONGEST = 1024  # tokens: longer samples would cost more than they are likely to reveal


def encoder_texts(calibration: Sequence[str], max_tokens: int) -> tuple[str, ...]:
    """Texts of different lengths, the last longer than the model's limit."""
    ordered = sorted(dict.fromkeys(calibration), key=len)
    chosen = [ordered[0], ordered[len(ordered) // 2], ordered[-1]] if ordered else []
    words = " ".join([*TEXTS, *ordered[-20:]])
    times = 1 + 8 * max_tokens // max(1, len(words))
    return (*dict.fromkeys([*TEXTS, *chosen]), " ".join([words] * times))


def encoder_pairs(
    calibration: Sequence[tuple[str, str]], max_tokens: int
) -> tuple[tuple[str, str], ...]:
    """Pairs of different lengths; in the last two, one text is longer than the model's limit."""
    ordered = sorted(dict.fromkeys(calibration), key=lambda pair: len(pair[0]) + len(pair[1]))
    chosen = [ordered[0], ordered[len(ordered) // 2], ordered[-1]] if ordered else []
    pairs = [*zip(TEXTS, (*TEXTS[1:], TEXTS[0]), strict=True), *chosen]
    long = encoder_texts([text for _, text in ordered], max_tokens)[-1]
    return (*dict.fromkeys(pairs), (TEXTS[0], long), (long, TEXTS[0]))


def proof_texts(
    calibration: Sequence[TextOrPair], max_tokens: int, task: Task
) -> tuple[TextOrPair, ...]:
    """Texts, or pairs of a query and a text, for a task."""
    if task.ranks:
        pairs = [pair for pair in calibration if not isinstance(pair, str)]
        return encoder_pairs(pairs, max_tokens)
    return encoder_texts([text for text in calibration if isinstance(text, str)], max_tokens)


def decoder_samples(
    ids: Sequence[int], first: int | None, decoder: Decoder, switch: int | None = None
) -> tuple[TextSample, ...]:
    """One short text, and one that passes every window and change of rotary angles it can.

    ids: of any text, as long as there is one. first: the token that begins a text, None for none.
    switch: the length from which rotary angles change, None if they do not.
    """
    beyond = [place for place in (*decoder.windows, switch) if place and place < _LONGEST]
    lengths = {_SHORT, max(_SHORT, max(beyond, default=0) + _STEPS)}
    longest = decoder.context - _STEPS
    return tuple(_sample(ids, first, n) for n in sorted({min(n, longest) for n in lengths}))


def _sample(ids: Sequence[int], first: int | None, prefill: int) -> TextSample:
    count = prefill + _STEPS
    row = (list(ids) * (1 + count // len(ids)))[:count]
    if first is not None:
        row[0] = first
    return TextSample(ids=tuple(row), prefill=prefill)
