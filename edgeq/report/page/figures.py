"""The structure of a figure, and what all charts share: rows, colours, fonts.

Colours are the page's CSS variables, which SVG accepts: light, dark and print modes need no
redrawing. Every chart has tables that hold its figures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
Values = list[dict[str, Any]]

DATA = "table"
"""Name of the data set with a chart's values."""

INK, MUTED, LINE, ACCENT, PLAIN = (f"var(--{n})" for n in ("ink", "muted", "line", "accent", "flt"))
LIMIT = "var(--fail)"

_CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "aria": False,  # the element around a chart describes it; its tables hold the figures
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelLimit": 150,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": MUTED,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "symbolStrokeWidth": 0,
        "labelLimit": 300,
    },
    "text": {"color": INK, "fontSize": 12},
    "rule": {"color": INK},
}


@dataclass(frozen=True)
class Table:
    """A table of text cells; `numbers` are the columns aligned as numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A chart in Vega-Lite with a description in words, and its figures as tables.

    id: of its element in the page. text: what the chart shows, for everybody.
    """

    id: str
    title: str
    text: str
    spec: Spec
    tables: Sequence[Table]


@dataclass
class Rows:
    """The frame of a chart with a row per artifact: its name above, marks below.

    A row is one unit of the vertical scale; names take its upper part, so that on a phone the marks
    get the full width.
    """

    names: Sequence[str]
    height: int = 48
    layers: list[Spec] = field(default_factory=list)

    def y(self, name: str) -> Spec:
        """The vertical channel that reads the field `name`, in rows from the top."""
        scale = {"domain": [0, len(self.names)], "nice": False, "reverse": True}
        return {"field": name, "type": "quantitative", "scale": scale, "axis": None}

    def spec(self, x: Spec, values: Values) -> Spec:
        """The chart: `values` are the data of its layers, `x` their common horizontal channel."""
        start = x["scale"]["domain"][0]
        labels: Spec = {
            "data": {
                "values": [
                    {"name": name, "top": i + 0.14, "start": start}
                    for i, name in enumerate(self.names)
                ]
            },
            "mark": {"type": "text", "align": "left", "baseline": "middle", "fontSize": 12.5},
            "encoding": {
                "x": {**x, "field": "start"},
                "y": self.y("top"),
                "text": {"field": "name"},
            },
        }
        return {
            "data": {"name": DATA, "values": values},
            "width": "container",
            "height": self.height * len(self.names),
            "layer": [*self.layers, labels],
        }


def across(field_name: str, title: str, domain: Sequence[float], *, log: bool = False) -> Spec:
    """A horizontal channel of numbers from `domain[0]` to `domain[1]`."""
    scale: Spec = {"domain": list(domain), "nice": False}
    axis: Spec = {"title": title, "tickCount": 5, "labelOverlap": True, "labelFlush": True}
    if log:
        scale["type"] = "log"
        axis["values"] = _log_ticks(*domain)
        axis["labelExpr"] = "format(datum.value, datum.value < 0.001 ? '.0e' : '~g')"
    return {"field": field_name, "type": "quantitative", "scale": scale, "axis": axis}


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; if these are few, also 2 and 5 between them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) < 4 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def legend(labels: Mapping[str, str], **more: Any) -> Spec:
    """A colour channel for the field `kind`: `labels` maps its values to colours."""
    return {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": list(labels), "range": list(labels.values())},
        "legend": {"title": None, "orient": "top", "columns": 2, "symbolType": "square", **more},
    }


def limit_rules(limits: Mapping[str, float], x: Spec) -> list[Spec]:
    """Vertical lines at `limits`, each labelled at the top."""
    low, high = x["scale"]["domain"]
    is_log = x["scale"].get("type") == "log"
    layers: list[Spec] = []
    for index, (name, value) in enumerate(limits.items()):
        given = (math.log(value / low), math.log(high / low)) if is_log else (value, high)
        on_right = given[0] > given[1] / 2  # on the side with more room for its label
        data = {"values": [{"at": value, "label": name}]}
        channel = {**x, "field": "at"}
        layers.append(
            {
                "data": data,
                "mark": {"type": "rule", "color": LIMIT, "strokeDash": [5, 3], "strokeWidth": 1.5},
                "encoding": {"x": channel},
            }
        )
        layers.append(
            {
                "data": data,
                "mark": {
                    "type": "text",
                    "align": "right" if on_right else "left",
                    "dx": -5 if on_right else 5,
                    "y": -8 - 15 * index,
                    "color": LIMIT,
                },
                "encoding": {"x": channel, "text": {"field": "label"}},
            }
        )
    return layers


def vega_lite(figure: Figure) -> Spec:
    """The whole specification of a figure's chart."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 4,
        **figure.spec,
        "config": _CONFIG,
    }


def chart(figure: Figure) -> str:
    """`vega_lite` as JSON that cannot close the script element that contains it."""
    text = json.dumps(vega_lite(figure), separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c")
