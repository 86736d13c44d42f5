"""Disturbances of the machine while something was timed, and the possible error of a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeq.core.units import format_seconds
from edgeq.measure.records import Conditions, Measurement, Quantile

_OTHERS = 0.1  # CPUs used by other processes
_LOAD = 1.5  # processes per CPU; a pass itself uses no more threads than there are CPUs
_FREQUENCY = 0.9  # ratio of the lowest to the highest
_REFERENCES = 1.15  # ratio of the slowest to the fastest time of the same model
_LEAST = 1.25
_MOST = 10.0


@dataclass(frozen=True)
class Disturbance:
    """Disturbances in words, and the factors by which a time may be too long or too short.

    Both are 1 for none. Other programs only slow a run down, so a kept budget is less in doubt than
    a missed one.
    """

    words: str = ""
    too_long: float = 1.0
    too_short: float = 1.0


def disturbance(conditions: Conditions, references: Sequence[Measurement]) -> Disturbance:
    """The disturbance of one pass in these `conditions`; `references` time the same model several
    times.

    Empty if the machine was quiet, or reports nothing.
    """
    found = [*_in_conditions(conditions), *_between(references)]
    if not found:
        return Disturbance()
    return Disturbance(
        "; ".join(each.words for each in found),
        min(_MOST, max(_LEAST, *(each.too_long for each in found))),
        min(_MOST, max(_LEAST, *(each.too_short for each in found))),
    )


def _in_conditions(conditions: Conditions) -> Iterator[Disturbance]:
    cpus, load = conditions.cpus, conditions.load_average
    others = conditions.others or 0.0
    if cpus and (others > _OTHERS * cpus or (load or 0.0) > _LOAD * cpus):
        words = f"other programs used {others:.1f} of {cpus} CPUs" if conditions.others else ""
        average = f"load average {load:.1f} on {cpus} CPUs" if load else ""
        words = ", ".join(filter(None, [words, average]))
        yield Disturbance(f"busy machine: {words}", too_long=1 / max(0.1, 1 - others / cpus))
    if conditions.megahertz is not None:
        low, high = conditions.megahertz
        if low < _FREQUENCY * high:
            words = f"the CPU's frequency changed between {low:.0f} and {high:.0f} MHz"
            yield Disturbance(words, high / low, high / low)


def _between(references: Sequence[Measurement]) -> Iterator[Disturbance]:
    medians = sorted(filter(None, map(_median, references)), key=lambda each: each.seconds)
    if len(medians) < 2:
        return
    fast, slow = medians[0], medians[-1]
    apart = fast.high_seconds is not None and slow.low_seconds > fast.high_seconds
    if apart and slow.seconds > _REFERENCES * fast.seconds:
        times = f"{format_seconds(fast.seconds)} and {format_seconds(slow.seconds)}"
        words = f"full precision disagrees with itself: {times} in one check"
        ratio = slow.seconds / fast.seconds
        yield Disturbance(words, ratio, ratio)


def _median(measured: Measurement) -> Quantile | None:
    if measured.latency is not None:
        return measured.latency.p50
    return measured.generation.first_token_p50 if measured.generation is not None else None
