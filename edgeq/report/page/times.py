"""Times as distributions of every sample, quantized above the line, full precision below."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeq.core.units import format_seconds
from edgeq.measure.records import Measurement, Quantile
from edgeq.report.page.figures import (
    ACCENT,
    INK,
    PLAIN,
    Figure,
    Rows,
    Table,
    Values,
    across,
    legend,
    limit_rules,
)
from edgeq.report.page.record import Report

_BINS = 60
_LOG_FROM = 6.0  # times that differ by more than this factor get a logarithmic scale
OWN, FLOAT = "quantized", "full precision"


@dataclass(frozen=True)
class _Times:
    """Samples of one artifact, in seconds, with their median and 90 % quantile."""

    samples: Sequence[float]
    p50: Quantile
    p90: Quantile


@dataclass(frozen=True)
class _Kind:
    id: str
    title: str
    text: str
    budgets: Mapping[str, str]  # name of the budget → label of its line


_KINDS = (
    _Kind(
        "time-run",
        "Time of one run",
        "A histogram of every timed run: the higher, the more runs took that long.",
        {"latency.p50": "median", "latency.p90": "90 %"},
    ),
    _Kind(
        "time-first",
        "Time until the first word",
        "From the prompt to the first token of the answer, every text that was timed.",
        {"latency.first_token": "90 %"},
    ),
    _Kind(
        "time-token",
        "Time of each further token",
        "Every token that was generated; less is a faster answer.",
        {"speed.generation": "median"},
    ),
)


def _read(measured: Measurement) -> dict[str, _Times]:
    found = {}
    if measured.latency is not None:
        times = measured.latency
        found["time-run"] = _Times(times.samples_seconds, times.p50, times.p90)
    if measured.generation is not None:
        spoken = measured.generation
        first, token = spoken.first_token_seconds, spoken.token_seconds
        found["time-first"] = _Times(first, spoken.first_token_p50, spoken.first_token_p90)
        found["time-token"] = _Times(token, spoken.token_p50, spoken.token_p90)
    return found


def time_figures(report: Report) -> list[Figure]:
    """One figure for each kind of time that was measured."""
    pairs = {m.artifact: (_read(m), _read(baseline)) for m, baseline in report.measurements()}
    figures = []
    for kind in _KINDS:
        found = {
            name: (own[kind.id], baseline.get(kind.id))
            for name, (own, baseline) in pairs.items()
            if kind.id in own
        }
        if found:
            figures.append(_figure(report, kind, found))
    return figures


def _figure(
    report: Report, kind: _Kind, found: Mapping[str, tuple[_Times, _Times | None]]
) -> Figure:
    limits = _limits(report, kind)
    every = [
        t
        for own, baseline in found.values()
        for times in (own, baseline)
        if times
        for t in times.samples
    ]
    low, high = min(every), max(every)
    is_log = max(high, *limits.values(), 0.0) > _LOG_FROM * low
    if is_log:
        edges = _edges(low, 1.05 * max(high, *limits.values(), 0.0), is_log=True)
    else:
        edges = _edges(0.0, 1.05 * max(high, *limits.values(), 0.0), is_log=False)
    more = f" Only every {report.kept}th sample is kept in this page." if report.kept > 1 else ""
    return Figure(
        id=kind.id,
        title=kind.title,
        text=f"{kind.text} The short line marks the time that 90 % stayed within. "
        f"{_where(report, kind)}{more}",
        spec=_spec(found, edges, is_log, limits),
        tables=(_table(kind.title, found),),
    )


def _limits(report: Report, kind: _Kind) -> dict[str, float]:
    """Budget lines in seconds; a speed is converted to the time of one token."""
    found = {}
    for verdict in report.verdicts:
        for line in verdict.lines:
            if line.budget in kind.budgets:
                seconds = 1 / line.limit if line.unit == "tokens/s" else line.limit
                word = kind.budgets[line.budget]
                found[f"budget {format_seconds(seconds)} ({word})"] = seconds
    return found


def _where(report: Report, kind: _Kind) -> str:
    """Describe what was timed, and for which devices it does not count as a measurement."""
    machines: dict[str, None] = {}
    for measured, _ in report.measurements():
        for times in (measured.latency, measured.generation):
            if times is not None:
                seen = times.conditions
                machines[f"Timed on {seen.cpu}, {seen.threads} threads ({seen.inputs})."] = None
    others = {
        verdict.device_name: None
        for verdict in report.verdicts
        for line in verdict.lines
        if line.budget in kind.budgets and line.how != "measured"
    }
    words = " ".join(machines)
    if others:
        words += f" For {', '.join(others)} that is not a measurement."
    return words


def _edges(low: float, high: float, *, is_log: bool) -> list[float]:
    if is_log:
        low *= 0.95
        ratio = high / low
        return [low * ratio ** (i / _BINS) for i in range(_BINS + 1)]
    return [low + (high - low) * i / _BINS for i in range(_BINS + 1)]


def _spec(
    found: Mapping[str, tuple[_Times, _Times | None]],
    edges: Sequence[float],
    is_log: bool,
    limits: Mapping[str, float],
) -> dict[str, object]:
    frame = Rows(list(found), height=76)
    x = across("start", "milliseconds", (1000 * edges[0], 1000 * edges[-1]), log=is_log)
    values: Values = []
    marks: Values = []
    for index, (name, pair) in enumerate(found.items()):
        for times, kind, base, tall in (
            (pair[0], OWN, index + 0.66, -0.4),
            (pair[1], FLOAT, index + 0.66, 0.28),
        ):
            if times is None:
                continue
            values += _hill(name, kind, times, edges, base, tall)
            marks.append(
                {
                    "at": 1000 * times.p90.seconds,
                    "top": base,
                    "bottom": base + tall,
                    "tip": f"{name}, {kind}: 90 % within {format_seconds(times.p90.seconds)}",
                }
            )
    frame.layers.append(
        {
            "mark": {"type": "rect"},
            "encoding": {
                "x": x,
                "x2": {"field": "end"},
                "y": frame.y("top"),
                "y2": {"field": "bottom"},
                "color": legend({OWN: ACCENT, FLOAT: PLAIN}, offset=14 + 15 * len(limits)),
                "tooltip": {"field": "tip"},
            },
        }
    )
    frame.layers.append(
        {
            "data": {"values": marks},
            "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5},
            "encoding": {
                "x": {**x, "field": "at"},
                "y": frame.y("top"),
                "y2": {"field": "bottom"},
                "tooltip": {"field": "tip"},
            },
        }
    )
    frame.layers += limit_rules({name: 1000 * at for name, at in limits.items()}, x)
    return frame.spec(x, values)


def _hill(
    name: str, kind: str, times: _Times, edges: Sequence[float], base: float, tall: float
) -> Values:
    counts = [0] * (len(edges) - 1)
    for seconds in times.samples:
        counts[min(len(counts) - 1, max(0, bisect.bisect_right(edges, seconds) - 1))] += 1
    most = max(counts)
    return [
        {
            "row": name,
            "kind": kind,
            "count": count,
            "start": 1000 * edges[i],
            "end": 1000 * edges[i + 1],
            "top": base,
            # A single run among thousands must stay visible.
            "bottom": base + tall * max(0.04, count / most),
            "tip": f"{name}, {kind}: {count} of {len(times.samples)} took "
            f"{format_seconds(edges[i])} to {format_seconds(edges[i + 1])}",
        }
        for i, count in enumerate(counts)
        if count
    ]


def _table(caption: str, found: Mapping[str, tuple[_Times, _Times | None]]) -> Table:
    rows = []
    for name, pair in found.items():
        for times, kind in zip(pair, (OWN, FLOAT), strict=True):
            if times is not None:
                rows.append(
                    [
                        name,
                        kind,
                        str(len(times.samples)),
                        _with_interval(times.p50),
                        _with_interval(times.p90),
                        format_seconds(min(times.samples)),
                        format_seconds(max(times.samples)),
                    ]
                )
    columns = ("artifact", "model", "samples", "median", "90 %", "fastest", "slowest")
    return Table(caption, columns, rows, frozenset(range(2, 7)))


def _with_interval(found: Quantile) -> str:
    if found.high_seconds is None or math.isinf(found.high_seconds):
        return f"{format_seconds(found.seconds)} (no upper end)"
    low, high = format_seconds(found.low_seconds), format_seconds(found.high_seconds)
    return f"{format_seconds(found.seconds)} ({low} to {high})"
