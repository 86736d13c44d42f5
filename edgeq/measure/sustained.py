"""A language model that writes without a pause: its rate over time, frequency and temperature.

A device that grows hot, or whose share of a CPU runs out, is fast at first. What an app can count
on is the rate in the slowest part of minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import accumulate

from edgeq.core.units import format_speed
from edgeq.formats.language import Ids, LanguageModel
from edgeq.measure.bystanders import celsius, megahertz
from edgeq.measure.generation import one_text, rate
from edgeq.measure.records import Moment, Rate, Sustained

_STEPS, _PARTS = 60, 5
_STILL = Rate(tokens_per_second=0.0, low_tokens_per_second=0.0, high_tokens_per_second=0.0)


def sustain(
    model: LanguageModel,
    prompt: Ids,
    count: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Moment]:
    """Texts of a prompt and `count` more tokens for `seconds`, as sixty moments of equal length.

    A token belongs to the moment in which it ended. A moment in which none did, as one that a long
    prompt fills, is left out. `clock` gives seconds.
    """
    steps: list[list[float]] = [[] for _ in range(_STEPS)]
    speeds: list[list[float]] = [[] for _ in range(_STEPS)]
    heat: list[list[float]] = [[] for _ in range(_STEPS)]
    begin = clock()
    while (at := clock() - begin) < seconds:
        first, rest = one_text(model, prompt, count, clock)
        for taken, end in zip(rest, accumulate(rest, initial=at + first), strict=False):
            steps[_step(end + taken, seconds)].append(taken)
        now = _step(clock() - begin, seconds)
        speeds[now] += [seen for seen in (megahertz(),) if seen is not None]
        heat[now] += [seen for seen in (celsius(),) if seen is not None]
    return [
        Moment(
            end_seconds=seconds * (index + 1) / _STEPS,
            tokens=len(taken),
            seconds=sum(taken),
            megahertz=min(speeds[index], default=None),
            celsius=max(heat[index], default=None),
        )
        for index, taken in enumerate(steps)
        if taken
    ]


def _step(at: float, seconds: float) -> int:
    return min(_STEPS - 1, int(at / seconds * _STEPS))


def summarise_moments(moments: Sequence[Moment]) -> Sustained | None:
    """The first and the slowest of five parts of a run that `sustain` returned; None for no run.

    The rate of a part is the median of its moments, with the interval of
    `edgeq.measure.order_statistics`; 0 if no token ended in it, as where everything stood still.
    """
    if not moments:
        return None
    seconds = moments[-1].end_seconds
    parts: dict[int, list[float]] = {}
    for each in moments:
        part = min(_PARTS - 1, int(each.end_seconds / seconds * _PARTS - 1e-9))
        parts.setdefault(part, []).append(each.seconds / each.tokens)
    rates = [rate(1, parts[part]) if part in parts else _STILL for part in range(_PARTS)]
    slowest = min(range(_PARTS), key=lambda part: rates[part].tokens_per_second)
    return Sustained(
        seconds=seconds,
        moments=tuple(moments),
        first=rates[0],
        slowest=rates[slowest],
        slowest_part=slowest + 1,
    )


def describe(run: Sustained) -> str:
    """Where it was slowest and what the first part reached, with frequency and temperature."""
    words = [
        f"part {run.slowest_part} of {_PARTS}, each {run.seconds / _PARTS:g} s",
        f"the first {format_speed(run.first.tokens_per_second)}",
    ]
    speeds = [each.megahertz for each in run.moments if each.megahertz is not None]
    if speeds and min(speeds) < max(speeds):
        words.append(f"{max(speeds):.0f} to {min(speeds):.0f} MHz")
    heat = [each.celsius for each in run.moments if each.celsius is not None]
    if heat:
        words.append(f"up to {max(heat):.0f} °C")
    return ", ".join(words)
