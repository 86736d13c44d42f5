"""What one wants to know first of an artifact: how much smaller, how near, how fast, how large."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.core.units import format_bytes
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import Line, Verdict

_SAME = 1.05  # a ratio of sizes that nobody would call smaller
_NEAR = {
    "cosine": "{:.3f} as close",
    "kl": "{:.4f} nats from the original (KL)",
    "agreement": "{:.1%} the same labels",
}


def figures(verdict: Verdict) -> str:
    """`4.0 × smaller, 0.999 as close, 7.6 ms of 100 ms, 116 MiB of 200 MiB`."""
    return ", ".join(_figures(verdict))


def circumstances(verdict: Verdict) -> str:
    """Where the figures are from, by name: the processor and system, and for which device."""
    measured = verdict.measurement
    passes = (measured.latency, measured.generation, measured.memory, measured.quality)
    found = next((each.conditions for each in (*passes, measured.language) if each), None)
    if found is None:
        return f"computed for {verdict.device_name}; nothing was measured"
    where = f"measured on {found.cpu or 'an unnamed processor'} ({found.system})"
    kinds = {line.how for line in verdict.lines}
    if kinds == {"measured"}:
        return where
    others = " and ".join(sorted(kinds - {"measured"}))
    return f"{where}, for {verdict.device_name}: {others} where it is not that device"


def _figures(verdict: Verdict) -> Iterator[str]:
    own, floats = verdict.measurement.download_bytes, verdict.float_measurement.download_bytes
    if floats > _SAME * own:
        yield f"{floats / own:.1f} × smaller"
    else:
        yield format_bytes(own)
    seen = [line for line in verdict.lines if line.value is not None]
    for kind, words in (("quality", _near), ("latency", _of_limit), ("memory", _of_limit)):
        line = next((line for line in seen if line.budget.startswith(f"{kind}.")), None)
        if line is not None:
            yield words(line)


def _near(line: Line) -> str:
    """How near the answers are to the original's, in plain words where there are some."""
    name = line.budget.partition(".")[2]
    if name in _NEAR:
        return _NEAR[name].format(line.value)
    return f"{name.replace('_', ' ')} {_value(line)}"


def _of_limit(line: Line) -> str:
    joint = "of" if line.bound == "at most" else "for at least"
    return f"{_value(line)} {joint} {format_value(line.limit, line.unit)}"


def _value(line: Line) -> str:
    assert line.value is not None  # lines without one are left out
    return format_value(line.value, line.unit)
