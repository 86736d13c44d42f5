"""What tensors cost, for a person: a table of at most 80 columns, and a picture."""

from __future__ import annotations

import math
import re
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeq.allocate.sensitivity import Sensitivity
from edgeq.report.terminal import print_wrapped
from edgeq.units import format_bytes

_SHOWN = 40
_MEASURES = {"kl": "mean KL divergence, nats", "cosine": "mean 1 − cosine"}


def print_sensitivity(found: Sensitivity, console: Console) -> None:
    """Tensors from the costliest on, and how the sum of their losses compares with the whole."""
    uses = _uses(found)
    console.print(Text(f"{found.format}: {_MEASURES[found.measure]}, one tensor rounded", "bold"))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    table.add_column("tensor", no_wrap=True)
    for use in uses:
        table.add_column(use, justify="right", no_wrap=True)
    ordered = sorted(found.tensors, key=lambda name: -_most(found, name))
    for name in ordered[:_SHOWN]:
        costs = found.tensors[name]
        shown = [f"{costs[use].loss:.1e}" if use in costs else "" for use in uses]
        table.add_row(_short(name, 78 - 9 * len(uses)), *shown)
    console.print(table)
    if len(ordered) > _SHOWN:
        print_wrapped(f"and {len(ordered) - _SHOWN} more; --json has all", "dim", console)
    for whole in found.wholes:
        words = (
            f"a whole model of {format_bytes(whole.bytes)}: losses add up to {whole.additive:.3g}, "
            f"measured {whole.loss:.3g} ± {whole.error:.2g}"
        )
        print_wrapped(words, "", console)
    for words in _inputs(found):
        print_wrapped(words, "", console)
    words = (
        f"Measured on {found.samples} held-back samples of the calibration data "
        f"({found.whole_samples} for whole models)."
    )
    print_wrapped(words, "dim", console)


def _inputs(found: Sensitivity) -> list[str]:
    """What the runtime loses beside all weights, for number formats that it treats alike."""
    alike: dict[float, list[str]] = {}
    for use in _uses(found):
        costs = [own[use].inputs for own in found.tensors.values() if use in own]
        alike.setdefault(math.fsum(costs), []).append(use)
    return [
        f"rounding of what layers multiply adds {loss:.2g} with {', '.join(uses)}"
        for loss, uses in alike.items()
        if loss > 0
    ]


def sensitivity_picture(found: Sensitivity) -> dict[str, Any]:
    """A Vega-Lite specification: a cell for every tensor and number format."""
    values = [
        {"tensor": name, "format": use, "loss": cost.loss, "how": cost.how}
        for name, costs in found.tensors.items()
        for use, cost in costs.items()
        if cost.loss > 0
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": f"What each tensor costs in {found.format}",
        "data": {"values": values},
        "mark": {"type": "rect"},
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
            "color": {
                "field": "loss",
                "type": "quantitative",
                "scale": {"type": "log", "scheme": "viridis"},
                "title": _MEASURES[found.measure],
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
    }


def _uses(found: Sensitivity) -> list[str]:
    return list(dict.fromkeys(use for costs in found.tensors.values() for use in costs))


def _most(found: Sensitivity, name: str) -> float:
    return max(cost.loss for cost in found.tensors[name].values())


def _short(name: str, width: int) -> str:
    text = re.sub(r"^(model|encoder)\.(layers?\.)?|\.weight$", "", name)
    return text if len(text) <= width else f"…{text[-(width - 1) :]}"
