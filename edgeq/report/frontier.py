"""The frontier as a terminal table of at most 80 columns, and as a chart."""

from __future__ import annotations

import sys
from typing import Any

from rich.table import Table

from edgeq.core.units import MIB, format_bytes, format_seconds
from edgeq.formats.registry import file_format
from edgeq.pipeline.frontier.records import Frontier
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table
from edgeq.report.terminal import print_wrapped

_NORMAL_95 = 1.96
_MEASURES = {"kl": "mean KL divergence, nats", "cosine": "mean 1 − cosine"}


def print_frontier(found: Frontier, console: Console) -> None:
    """Print every point, smallest file first, the Pareto-optimal ones in bold."""
    best = set(found.best())
    console.print(Text(f"{found.model}: {_MEASURES[found.measure]}, on {found.data}", "bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    for name in ("artifact", "size", "loss", "± error", "time", "made by"):
        right = name not in ("artifact", "made by")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for point in found.points:
        time = "" if point.seconds is None else format_seconds(point.seconds.value)
        row = (point.name, format_bytes(point.bytes), f"{point.loss:.3g}", f"{point.error:.2g}")
        table.add_row(*row, time, point.made_by, style="bold" if point in best else None)
    print_table(table, console)
    _print_predictions(found, console)
    words = (
        f"Sizes and losses are measured; times, of one token or one run on {found.device}, are "
        "estimated. Bold: no smaller file is nearer to full precision."
    )
    if sys.platform != "darwin" and not all(
        file_format(point.format).runs_anywhere for point in found.points
    ):
        words += " Losses of Core ML are emulated: edgeq's executor ran the packages."
    print_wrapped(words, "dim", console)


def _print_predictions(found: Frontier, console: Console) -> None:
    """Compare the losses that allocations were predicted to have with the measured ones."""
    known = [point for point in found.points if point.predicted and point.held_back]
    if not known:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("allocation", no_wrap=True)
    for name in ("predicted", "held out", "evaluation"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in known:
        losses = (point.predicted, point.held_back, point.loss)
        table.add_row(point.name, *(f"{loss:.3g}" for loss in losses))
    console.print()
    print_table(table, console)
    shift = found.shift() or 1.0
    words = (
        "Predicted for held-out calibration data, measured there, and on the evaluation data, "
        f"where losses are {shift:.2f} times those."
    )
    print_wrapped(words, "dim", console)
    console.print()


def frontier_picture(found: Frontier) -> dict[str, Any]:
    """Return a Vega-Lite chart of loss over size, both logarithmic, with 95 % intervals."""
    x = {"field": "MiB", "type": "quantitative", "scale": {"type": "log", "nice": False}}
    x["axis"] = {"title": "size, MiB", "format": "~g"}
    colour = {"field": "made by", "type": "nominal", "title": "made by"}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": f"{found.model} on {found.device}",
        "width": 640,
        "height": 420,
        "data": {"values": _values(found)},
        "encoding": {"x": x, "color": colour},
        "layer": _layers(_MEASURES[found.measure]),
    }


def _values(found: Frontier) -> list[dict[str, Any]]:
    """The points with a loss, which a logarithm needs."""
    return [
        {
            "name": point.name,
            "made by": point.made_by,
            "format": point.format,
            "MiB": point.bytes / MIB,
            "loss": point.loss,
            "low": max(point.loss - _NORMAL_95 * point.error, point.loss / 10),
            "high": point.loss + _NORMAL_95 * point.error,
            "ms": point.seconds.value * 1000 if point.seconds else None,
        }
        for point in found.points
        if point.loss > 0
    ]


def _layers(title: str) -> list[dict[str, Any]]:
    """Intervals, a line through the allocations, points and their names."""
    loss: dict[str, Any] = {
        "field": "loss",
        "type": "quantitative",
        "scale": {"type": "log"},
        "title": title,
    }
    tip = [{"field": name} for name in ("name", "MiB", "loss", "ms", "made by")]
    return [
        {
            "mark": {"type": "rule"},
            "encoding": {"y": {**loss, "field": "low"}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "line", "opacity": 0.5},
            "transform": [{"filter": "datum['made by'] == 'allocation'"}],
            "encoding": {"y": loss, "detail": {"field": "format"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60},
            "encoding": {
                "y": loss,
                "shape": {"field": "format", "type": "nominal"},
                "tooltip": tip,
            },
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 7, "dy": -5, "fontSize": 9},
            "encoding": {"y": loss, "text": {"field": "name"}},
        },
    ]
