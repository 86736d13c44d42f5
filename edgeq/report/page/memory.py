"""Memory of each artifact as stacked bars, next to each device's limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeq.core.units import MIB, format_bytes
from edgeq.devices.profile import AppLimit
from edgeq.measure.records import Memory
from edgeq.pipeline.check.verdict import Verdict
from edgeq.report.page.figures import Figure, Rows, Table, Values, across, legend, limit_rules
from edgeq.report.page.record import Report, ReportedDevice

RUNTIME, WORK, CACHE, MAPPED = (
    "runtime, nothing loaded",
    "working memory, cannot be dropped",
    "KV cache",
    "weights, mapped: can be dropped",
)
_COLOURS = {RUNTIME: "var(--m1)", WORK: "var(--m2)", CACHE: "var(--m3)", MAPPED: "var(--m4)"}
_ESTIMATED = {  # the terms of edgeq.estimate.memory
    "the runtime": RUNTIME,
    "weights and code, mapped": MAPPED,
    "keys and values": CACHE,
}
_FAR = 4.0  # a limit this many times the longest bar would shrink the bars: the text has it

Parts = dict[str, float]
"""Bytes by kind."""


def measured_parts(memory: Memory) -> Parts:
    """Split the peak resident set; the working memory is the remainder."""
    mapped = (memory.ran.file_mapped_bytes or 0) - (memory.baseline.file_mapped_bytes or 0)
    parts = {
        RUNTIME: float(memory.baseline.resident_bytes),
        CACHE: float(memory.cache_bytes or 0),
        MAPPED: float(max(0, mapped)),
    }
    parts[WORK] = max(0.0, memory.high_water_bytes - sum(parts.values()))
    return parts


def estimated_parts(parts: Mapping[str, float]) -> Parts:
    """Map an estimate's parts to the same kinds."""
    found = dict.fromkeys(_COLOURS, 0.0)
    for word, size in parts.items():
        found[_ESTIMATED.get(word, WORK)] += size
    return found


def memory_figures(report: Report) -> list[Figure]:
    """One figure per device; then, for language models, memory by context length."""
    figures = [figure for device in report.devices for figure in _device_figures(report, device)]
    lengths = _lengths_figure(report)
    return [*figures, *([lengths] if lengths else [])]


def _device_figures(report: Report, device: ReportedDevice) -> Iterator[Figure]:
    rows: dict[str, tuple[Parts, str]] = {}
    for verdict in report.verdicts:
        if verdict.device == device.id:
            found = _parts_of(report, verdict)
            if found is not None:
                rows[verdict.artifact] = found
    if not rows:
        return
    baseline = next(v.float_measurement for v in report.verdicts if v.device == device.id)
    is_here = any(how != "estimated" for _, how in rows.values())
    if baseline.memory is not None and is_here and baseline.artifact not in rows:
        rows[baseline.artifact] = (measured_parts(baseline.memory), "measured alongside")
    named = {f"{name} ({how})": parts for name, (parts, how) in rows.items()}
    limits = {_limit_name(limit): float(limit.bytes) for limit in device.limits}
    budgets = _budgets(report, device)
    largest = max(named, key=lambda name: sum(named[name].values()))
    yield Figure(
        id=f"memory-{device.id}",
        title=f"Memory on {device.name}",
        text=_limit_words(device, largest, sum(named[largest].values())),
        spec=_stacked(named, {**budgets, **limits}),
        tables=(
            _table(f"Memory of each artifact on {device.name}", "artifact", rows),
            _limits_table(device, budgets),
        ),
    )


def _parts_of(report: Report, verdict: Verdict) -> tuple[Parts, str] | None:
    """Return the parts and how they are known; None if nothing is known."""
    line = next(line for line in verdict.lines if line.budget == "device.memory")
    seen = verdict.measurement.memory
    if seen is not None and line.how in ("measured", "emulated"):
        return measured_parts(seen), line.how
    estimates = report.artifact(verdict.artifact).estimates.get(verdict.device)
    return (estimated_parts(estimates.memory.parts), "estimated") if estimates is not None else None


def _budgets(report: Report, device: ReportedDevice) -> dict[str, float]:
    found = {
        line.limit
        for verdict in report.verdicts
        for line in verdict.lines
        if verdict.device == device.id and line.budget == "memory.peak"
    }
    return {f"budget {format_bytes(limit)}": limit for limit in found}


def _limit_name(limit: AppLimit) -> str:
    size = format_bytes(limit.bytes)
    return f"limit {size}" if limit.entitlement == "none" else f"with entitlement {size}"


def _limit_words(device: ReportedDevice, largest: str, size: float) -> str:
    words = [
        f"One app may use {format_bytes(limit.bytes)} on {device.name}"
        + ("" if limit.entitlement == "none" else f" with the entitlement {limit.entitlement}")
        + f" ({limit.basis})."
        for limit in device.limits
    ]
    words.append(
        f"The largest here, {largest}, takes {size / device.limits[0].bytes:.1%} of what is "
        "allowed without an entitlement."
        if len(device.limits) > 1
        else f"The largest here, {largest}, takes {size / device.limits[0].bytes:.1%} of that."
    )
    if device.counts == "footprint":
        words.append("Its system does not count mapped weights, which it can drop, against that.")
    elif device.counts == "high-water":
        words.append("All memory in use counts against that, including mapped weights.")
    return " ".join(words)


def _stacked(rows: Mapping[str, Parts], limits: Mapping[str, float]) -> dict[str, object]:
    frame = Rows(list(rows))
    longest = max(sum(parts.values()) for parts in rows.values())
    drawn = {name: size / MIB for name, size in limits.items() if size <= _FAR * longest}
    end = 1.06 * max(longest / MIB, *drawn.values(), 0.0)
    x = across("start", "MiB", (0.0, end))
    values: Values = []
    for index, (name, parts) in enumerate(rows.items()):
        start = 0.0
        for kind in _COLOURS:
            size = parts[kind] / MIB
            if size > 0:
                values.append(
                    {
                        "row": name,
                        "kind": kind,
                        "start": start,
                        "end": start + size,
                        "top": index + 0.34,
                        "bottom": index + 0.86,
                        "tip": f"{name}: {kind}, {format_bytes(parts[kind])}",
                    }
                )
            start += size
    kinds = {value["kind"] for value in values}
    colours = {kind: colour for kind, colour in _COLOURS.items() if kind in kinds}
    frame.layers.append(
        {
            "mark": {"type": "rect"},
            "encoding": {
                "x": x,
                "x2": {"field": "end"},
                "y": frame.y("top"),
                "y2": {"field": "bottom"},
                "color": legend(colours, columns=1, offset=14 + 15 * len(drawn)),
                "tooltip": {"field": "tip"},
            },
        }
    )
    frame.layers += limit_rules(drawn, x)
    return frame.spec(x, values)


def _table(caption: str, first: str, rows: Mapping[str, tuple[Parts, str]]) -> Table:
    return Table(
        caption,
        (first, *_COLOURS, "together", "how"),
        [
            [
                name,
                *(format_bytes(parts[kind]) for kind in _COLOURS),
                format_bytes(sum(parts.values())),
                how,
            ]
            for name, (parts, how) in rows.items()
        ],
        frozenset(range(1, 6)),
    )


def _limits_table(device: ReportedDevice, budgets: Mapping[str, float]) -> Table:
    rows = [
        [
            "one app" if limit.entitlement == "none" else f"with {limit.entitlement}",
            format_bytes(limit.bytes),
            f"{limit.os}: {limit.basis}",
        ]
        for limit in device.limits
    ]
    rows += [["the recipe's budget", format_bytes(limit), "recipe"] for limit in budgets.values()]
    columns = ("what", "limit", "from")
    return Table(f"What {device.name} lets one app use", columns, rows, frozenset({1}))


def _lengths_figure(report: Report) -> Figure | None:
    """Plot the first artifact of each format; the cache is the same for all of them."""
    rows: dict[str, tuple[Parts, str]] = {}
    formats: set[str] = set()
    for artifact in report.artifacts:
        if artifact.record.format in formats:
            continue
        formats.add(artifact.record.format)
        for each in artifact.contexts:
            name = f"{artifact.record.name}, {each.context} tokens"
            rows[name] = (estimated_parts(each.parts), "estimated")
    if not rows:
        return None
    limits = {
        f"{device.name}: {_limit_name(limit)}": float(limit.bytes)
        for device in report.devices
        for limit in device.limits
    }
    return Figure(
        id="memory-lengths",
        title="Memory by length of the conversation",
        text="A language model remembers what it has read in a cache that grows with every token. "
        "These are estimates from its configuration; the cache is the same for all artifacts of "
        "one format.",
        spec=_stacked({n: parts for n, (parts, _) in rows.items()}, limits),
        tables=(_table("Estimated memory by length of the context", "context", rows),),
    )
