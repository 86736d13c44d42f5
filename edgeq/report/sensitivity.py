"""Sensitivity of tensors as a terminal table of at most 80 columns, and as a chart."""

from __future__ import annotations

import math
import re
from typing import Any

from rich.table import Table

from edgeq.core.units import format_bytes
from edgeq.pipeline.allocate.sensitivity import Cost, Sensitivity
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table
from edgeq.report.terminal import print_wrapped

_SHOWN = 40
_MARK = "~"  # marks interpolated values
_MEASURES = {"kl": "mean KL divergence, nats", "cosine": "mean 1 − cosine"}


def print_sensitivity(found: Sensitivity, console: Console) -> None:
    """Print tensors, most sensitive first, and compare the sum of losses with the whole model's."""
    uses = _uses(found)
    console.print(Text(f"{found.format}: {_MEASURES[found.measure]}, one tensor rounded", "bold"))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    table.add_column("tensor", overflow="fold")
    for use in uses:
        table.add_column(use, justify="right", no_wrap=True)
    ordered = sorted(found.tensors, key=lambda name: -_most(found, name))
    for name in ordered[:_SHOWN]:
        costs = found.tensors[name]
        table.add_row(_short(name), *(_loss(costs.get(use)) for use in uses))
    print_table(table, console)
    if any(cost.error is None for costs in found.tensors.values() for cost in costs.values()):
        words = f"{_MARK}: interpolated between number formats that were measured"
        print_wrapped(words, "dim", console)
    if len(ordered) > _SHOWN:
        print_wrapped(f"and {len(ordered) - _SHOWN} more; --json has all", "dim", console)
    for whole in found.wholes:
        words = (
            f"a whole model of {format_bytes(whole.bytes)}: the losses add up to "
            f"{whole.additive:.3g}, measured {whole.loss:.3g} ± {whole.error:.2g}"
        )
        print_wrapped(words, "", console)
    for words in _inputs(found):
        print_wrapped(words, "", console)
    words = (
        f"Measured on {found.samples} held-out samples of the calibration data "
        f"({found.whole_samples} for whole models)."
    )
    print_wrapped(words, "dim", console)


def _inputs(found: Sensitivity) -> list[str]:
    """Describe the loss from rounding activations at runtime, by groups of number formats."""
    alike: dict[float, list[str]] = {}
    for use in _uses(found):
        costs = [own[use].inputs for own in found.tensors.values() if use in own]
        alike.setdefault(math.fsum(costs), []).append(use)
    return [
        f"rounding of activations adds {loss:.2g} with {', '.join(uses)}"
        for loss, uses in alike.items()
        if loss > 0
    ]


def sensitivity_picture(found: Sensitivity) -> dict[str, Any]:
    """Return a Vega-Lite chart with a cell for each tensor and number format."""
    values = [
        {"tensor": name, "format": use, "loss": cost.loss, "how": cost.how}
        for name, costs in found.tensors.items()
        for use, cost in costs.items()
        if cost.loss > 0
    ]
    is_marked = any(value["how"] == "interpolated" for value in values)
    marks = f", {_MARK}: interpolated" if is_marked else ""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": f"What each tensor costs in {found.format}{marks}",
        "data": {"values": values},
        "width": {"step": 48},
        "height": {"step": 13},
        "encoding": {
            "x": {"field": "format", "type": "nominal", "sort": _uses(found), "title": None},
            "y": {
                "field": "tensor",
                "type": "nominal",
                "sort": list(found.tensors),
                "title": None,
                "axis": {"labelLimit": 360},
            },
            "tooltip": [
                {"field": name, "type": kind}
                for name, kind in (
                    ("tensor", "nominal"),
                    ("format", "nominal"),
                    ("loss", "quantitative"),
                    ("how", "nominal"),
                )
            ],
        },
        "layer": [_cells(_MEASURES[found.measure]), _marks()],
    }


def _cells(title: str) -> dict[str, Any]:
    scale = {"type": "log", "scheme": "viridis"}
    colour = {"field": "loss", "type": "quantitative", "scale": scale, "title": title}
    return {"mark": {"type": "rect"}, "encoding": {"color": colour}}


def _marks() -> dict[str, Any]:
    return {
        "transform": [{"filter": "datum.how == 'interpolated'"}],
        "mark": {"type": "text", "text": _MARK, "color": "white", "stroke": "black"},
    }


def _uses(found: Sensitivity) -> list[str]:
    return list(dict.fromkeys(use for costs in found.tensors.values() for use in costs))


def _most(found: Sensitivity, name: str) -> float:
    return max(cost.loss for cost in found.tensors[name].values())


def _loss(cost: Cost | None) -> str:
    if cost is None:
        return ""
    return f"{_MARK if cost.error is None else ''}{cost.loss:.1e}"


def _short(name: str) -> str:
    return re.sub(r"^(model|encoder)\.(layers?\.)?|\.weight$", "", name)
