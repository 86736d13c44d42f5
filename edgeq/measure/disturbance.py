"""What disturbed the machine while something was timed, and by how much a time may be wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeq.core.units import format_seconds
from edgeq.measure.records import Conditions, Measurement, Quantile

_OTHERS = 0.1  # of all CPUs, taken by other processes
_LOAD = 1.5  # processes a CPU; a pass itself takes no more threads than there are CPUs
_FREQUENCY = 0.9  # the lowest by the highest
_REFERENCES = 1.15  # the slowest by the fastest time of the same model
_LEAST = 1.25
_MOST = 10.0


@dataclass(frozen=True)
class Disturbance:
    """What there was, in words, and by which factors a time may be too long or too short.

    Both are 1 for nothing. Other programs only slow a run down, so that they leave a budget that is
    kept less in doubt than one that is missed.
    """

    words: str = ""
    too_long: float = 1.0
    too_short: float = 1.0


def disturbance(conditions: Conditions, references: Sequence[Measurement]) -> Disturbance:
    """Of one pass in these `conditions`; `references` are the same model timed several times.

    Nothing in it where the machine was quiet, or says nothing about itself.
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
