"""What language models write without a pause, over time, with the budget as a line."""

from __future__ import annotations

from edgeq.core.units import format_speed
from edgeq.measure.records import Moment, Sustained
from edgeq.report.page.figures import ACCENT, DATA, INK, LIMIT, Figure, Spec, Table, Values
from edgeq.report.page.record import Report


def sustained_figures(report: Report) -> list[Figure]:
    """The figure, if anything was measured so."""
    found = {
        measured.artifact: run
        for measured, _ in report.measurements()
        if measured.generation is not None and (run := measured.generation.sustained) is not None
    }
    if not found:
        return []
    return [
        Figure(
            id="time-sustained",
            title="Speed over time",
            text="Text after text without a pause; higher is faster. A line that falls is a device "
            "that grew hot or got less of its CPU. The budget is for the slowest fifth.",
            spec=_spec(found, _limits(report)),
            tables=(_table(found),),
        )
    ]


def _limits(report: Report) -> list[float]:
    lines = (line for verdict in report.verdicts for line in verdict.lines)
    return sorted({line.limit for line in lines if line.budget == "speed.sustained"})


def _spec(found: dict[str, Sustained], limits: list[float]) -> Spec:
    values: Values = [
        {
            "name": name,
            "at": each.end_seconds,
            "speed": each.tokens / each.seconds,
            "tip": f"{name}: {format_speed(each.tokens / each.seconds)} at {each.end_seconds:.0f} s"
            + _heat(each),
        }
        for name, run in found.items()
        for each in run.moments
    ]
    ends = [max((v for v in values if v["name"] == name), key=lambda v: v["at"]) for name in found]
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
            "encoding": {"x": x, "y": y, "detail": {"field": "name"}},
        },
        {
            "mark": {"type": "point", "color": ACCENT, "filled": True, "size": 14},
            "encoding": {"x": x, "y": y, "tooltip": {"field": "tip"}},
        },
        {
            "data": {"values": ends},
            "mark": {"type": "text", "align": "right", "dy": -10, "color": INK},
            "encoding": {"x": x, "y": y, "text": {"field": "name"}},
        },
    ]
    if limits:
        layers.append(
            {
                "data": {"values": [{"limit": limit} for limit in limits]},
                "mark": {"type": "rule", "color": LIMIT, "strokeDash": [5, 3], "strokeWidth": 1.5},
                "encoding": {"y": {**y, "field": "limit"}},
            }
        )
    data = {"name": DATA, "values": values}
    return {"data": data, "width": "container", "height": 220, "layer": layers}


def _heat(each: Moment) -> str:
    words = [f"{each.megahertz:.0f} MHz"] if each.megahertz is not None else []
    words += [f"{each.celsius:.0f} °C"] if each.celsius is not None else []
    return "".join(f", {word}" for word in words)


def _table(found: dict[str, Sustained]) -> Table:
    rows = [
        [
            name,
            f"{run.seconds:g} s",
            format_speed(run.first.tokens_per_second),
            format_speed(run.slowest.tokens_per_second),
            f"{run.slowest_part} of 5",
        ]
        for name, run in found.items()
    ]
    columns = ("artifact", "wrote for", "first fifth", "slowest fifth", "which")
    return Table("Speed over time", columns, rows, frozenset(range(1, 5)))
