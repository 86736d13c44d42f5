"""What a language model writes without a pause, over time, with the budget as a line."""

from __future__ import annotations

from edgeq.core.units import format_speed
from edgeq.measure.records import Moment, Sustained
from edgeq.report.page.figures import ACCENT, DATA, LIMIT, Figure, Spec, Table, Values
from edgeq.report.page.record import Report


def sustained_figures(report: Report) -> list[Figure]:
    """A figure for each artifact that was measured so."""
    lines = (line for verdict in report.verdicts for line in verdict.lines)
    limits = sorted({line.limit for line in lines if line.budget == "speed.sustained"})
    return [
        Figure(
            id=f"time-sustained-{measured.artifact}",
            title=f"Speed over time: {measured.artifact}",
            text="Text after text without a pause; higher is faster. A line that falls is a device "
            "that grew hot or got less of its CPU. The dashed line is the budget for the slowest "
            "fifth.",
            spec=_spec(run, limits),
            tables=(_table(measured.artifact, run),),
        )
        for measured, _ in report.measurements()
        if measured.generation is not None and (run := measured.generation.sustained) is not None
    ]


def _spec(run: Sustained, limits: list[float]) -> Spec:
    values: Values = [
        {
            "at": each.end_seconds,
            "speed": each.tokens / each.seconds,
            "tip": f"{format_speed(each.tokens / each.seconds)} at {each.end_seconds:.0f} s"
            + _heat(each),
        }
        for each in run.moments
    ]
    x = {"field": "at", "type": "quantitative", "axis": {"title": "seconds", "tickCount": 5}}
    y = {
        "field": "speed",
        "type": "quantitative",
        "scale": {"zero": True},
        "axis": {"title": "tokens per second", "tickCount": 5},
    }
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "color": ACCENT, "strokeWidth": 1.5},
            "encoding": {"x": x, "y": y},
        },
        {
            "mark": {"type": "point", "color": ACCENT, "filled": True, "size": 14},
            "encoding": {"x": x, "y": y, "tooltip": {"field": "tip"}},
        },
        {
            "data": {"values": [{"limit": limit} for limit in limits]},
            "mark": {"type": "rule", "color": LIMIT, "strokeDash": [5, 3], "strokeWidth": 1.5},
            "encoding": {"y": {**y, "field": "limit"}},
        },
    ]
    data = {"name": DATA, "values": values}
    return {"data": data, "width": "container", "height": 220, "layer": layers}


def _heat(each: Moment) -> str:
    words = [f"{each.megahertz:.0f} MHz"] if each.megahertz is not None else []
    words += [f"{each.celsius:.0f} °C"] if each.celsius is not None else []
    return "".join(f", {word}" for word in words)


def _table(name: str, run: Sustained) -> Table:
    row = [
        f"{run.seconds:g} s",
        format_speed(run.first.tokens_per_second),
        format_speed(run.slowest.tokens_per_second),
        f"{run.slowest_part} of 5",
    ]
    columns = ("wrote for", "first fifth", "slowest fifth", "which")
    return Table(f"Speed over time of {name}", columns, [row], frozenset(range(4)))
