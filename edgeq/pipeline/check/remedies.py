"""Remedies for a line that did not pass: the next step, with numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeq.core.budgets import Unit
from edgeq.core.sampling import LEAST_SAMPLES
from edgeq.core.units import MIB, format_bytes, format_seconds, format_speed
from edgeq.devices.profile import Device
from edgeq.measure.records import Measurement
from edgeq.pipeline.check.verdict import Line

if TYPE_CHECKING:
    from edgeq.pipeline.check.subject import Alternatives, Observation, Subject

# The last digit `format_value` shows of an ordinary value.
_STEPS: dict[Unit, float] = {
    "bytes": MIB / 10,
    "seconds": 1e-4,
    "cosine": 1e-5,
    "correlation × 100": 1e-2,
    "relative error": 1e-5,
    "share": 1e-5,
    "tokens/s": 1e-1,
    "nats": 1e-5,
    "ratio": 1e-5,
}


def format_value(value: float, unit: Unit) -> str:
    """Format `value` for a reader: MiB, ms, or the number itself with enough digits to compare.

    >>> format_value(15414067, "bytes"), format_value(0.98765, "cosine")
    ('14.7 MiB', '0.98765')
    """
    if unit == "bytes":
        return format_bytes(value)
    if unit == "seconds":
        return format_seconds(value)
    if unit == "tokens/s":
        return format_speed(value)
    return f"{value:.2f}" if unit == "correlation × 100" else f"{value:.5f}"


def remedy(line: Line, seen: Observation, device: Device, subject: Subject) -> str:
    """The next step for `line`, complete except for this remedy; empty for a pass."""
    measured = subject.measured
    if line.status == "pass":
        return ""
    if line.status == "inconclusive":
        return _to_settle(line, seen, subject.command(device), measured)
    if line.value is None:
        return "run `edgeq run` on the artifact to see the error; build it again"
    others = {n: size for n, size in subject.alternatives.items() if n != subject.variant}
    if line.unit == "bytes":
        return _smaller(line, measured, others, device)
    if line.unit in ("seconds", "tokens/s"):
        return _faster(line)
    if line.budget.startswith("placement."):
        return (
            "another number format: the Neural Engine prefers int8 per channel and palettes, the "
            "GPU blocks "
            f"(`edgeq plan` says more), or a budget of {_reach(line.value, line)}"
        )
    return _better(line, measured, others)


def _to_settle(line: Line, seen: Observation, command: str, measured: Measurement) -> str:
    """How to decide an open line: more samples, more runs, a quieter machine, another budget."""
    assert line.value is not None
    settled = f"a budget of {_proven(line)}" if _sure(line) is not None else ""
    if line.samples is not None:
        return _more_samples(line, seen.noun, settled)
    if seen.disturbed.words:
        return f"end other programs, then `{command}`"
    timed = measured.latency or measured.generation
    if timed is not None and timed.conditions.effort == "quick":
        return f"measure longer: `{command} --full`"
    return " or ".join(filter(None, [settled, f"on a quieter machine, `{command} --full`"]))


def _more_samples(line: Line, noun: str, settled: str) -> str:
    """How many samples to judge on, if some number of them would decide."""
    if line.samples_wanted is None:
        return f"{settled or 'another budget'}: the value equals the limit"
    where = "a larger data.evaluation, or its `samples`"
    more = f"judge it on about {line.samples_wanted} {noun} (now {line.samples}): {where}"
    return more if (line.samples or 0) < LEAST_SAMPLES or not settled else f"{more}; or {settled}"


def _smaller(line: Line, measured: Measurement, others: Alternatives, device: Device) -> str:
    """Name variants that would fit; for memory, mapped weights count if the system counts them."""
    assert line.value is not None
    raise_it = f"or a budget of {_reach(line.value, line)}"
    if line.budget == "device.memory":
        raise_it = "or a device with more memory"
    excess = measured.download_bytes - line.limit
    if line.budget != "size.download":
        if device.counts == "footprint":
            return f"shorter inputs, {raise_it}"
        excess = line.value - line.limit
    fitting = {n: s for n, s in others.items() if measured.download_bytes - s >= excess}
    if not fitting:
        return f"no known variant would fit; a smaller model, {raise_it}"
    name = max(fitting, key=lambda known: fitting[known])
    size = format_bytes(fitting[name])
    if line.budget == "size.download":
        return f"{name} would be {size} (estimated), {raise_it}"
    memory = format_bytes(line.value - (measured.download_bytes - fitting[name]))
    return f"{name}, {size} to download, would take about {memory} (estimated), {raise_it}"


def _faster(line: Line) -> str:
    assert line.value is not None
    is_time = line.bound == "at most"
    if line.float_value is not None and (line.float_value <= line.limit) == is_time:
        return f"float keeps it, with {format_value(line.float_value, line.unit)} (measured)"
    return f"a smaller model, shorter inputs, or a budget of {_proven(line)}"


def _better(line: Line, measured: Measurement, others: Alternatives) -> str:
    reach = f"a budget of {_proven(line)}"
    larger = {n: s for n, s in others.items() if s > measured.download_bytes}
    if not larger:
        return f"keep sensitive tensors in a wider number format with quantize.rules, or {reach}"
    name = min(larger, key=lambda known: larger[known])
    size = format_bytes(larger[name])
    return f"try {name}, {size} (estimated), or {reach}"


def _sure(line: Line) -> float | None:
    """The end of the interval that has to keep the budget."""
    return line.high if line.bound == "at most" else line.low


def _proven(line: Line) -> str:
    """The nearest round limit that the whole interval keeps, or the value where it has no end."""
    sure = _sure(line)
    assert line.value is not None
    return _reach(line.value if sure is None else sure, line)


def _reach(value: float, line: Line) -> str:
    """The nearest round limit that `value` keeps."""
    step = _STEPS[line.unit]
    rounded = math.ceil(value / step) if line.bound == "at most" else math.floor(value / step)
    return format_value(rounded * step, line.unit)
