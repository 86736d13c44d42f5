"""Size against quality: every artifact as a point, those that no other beats joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.measure.records import Measurement
from edgeq.report.page.figures import DATA, INK, MUTED, Figure, Spec, Table, Values, across
from edgeq.report.page.record import Report
from edgeq.units import MIB, format_bytes

_FORMATS = {"gguf": "var(--m2)", "onnx": "var(--m3)", "coreml": "var(--m1)"}
_Box = tuple[float, float, float, float]
_WIDTH, _HEIGHT, _LETTER = 255, 340, 6.9  # of the plot on a phone, and of its type; pixels
# Beside a point: alignment, and pixels right and down. The best fall to the right, so that above
# right and below left of them is room.
_PLACES: dict[str, tuple[str, int, int]] = {
    "above right": ("left", 8, -9),
    "below left": ("right", -8, 12),
    "below right": ("left", 8, 12),
    "above left": ("right", -8, -9),
}
_NORMAL_95 = 1.959963984540054  # half a 95 % interval, in standard errors


@dataclass(frozen=True)
class Point:
    """An artifact on the plane of size and loss; loss is KL in nats, or 1 − cosine."""

    name: str
    format: str
    bytes: int
    loss: float
    low: float
    high: float


def _point(measured: Measurement) -> Point | None:
    size = measured.download_bytes
    if measured.language is not None:
        kl = measured.language.divergence.kl
        half = _NORMAL_95 * kl.mean_se
        ends = (max(kl.mean - half, kl.mean / 10), kl.mean + half)
        return Point(measured.artifact, measured.format, size, kl.mean, *ends)
    if measured.quality is not None:
        worst = min(measured.quality.outputs.values(), key=lambda o: o.cosine_mean)
        loss = 1 - worst.cosine_mean
        return Point(measured.artifact, measured.format, size, loss, loss, 1 - worst.cosine_low)
    return None


def frontier_figure(report: Report) -> Figure | None:
    """Size against quality; None with fewer than two artifacts whose quality was measured."""
    points = [point for measured, _ in report.measurements() if (point := _point(measured))]
    return _figure(report, points) if len(points) > 1 else None


def _figure(report: Report, points: Sequence[Point]) -> Figure:
    is_language = report.task == "text-generation"
    least = min((p.loss for p in points if p.loss > 0), default=1e-9)
    points = [p if p.loss > 0 else Point(p.name, p.format, p.bytes, *[least] * 3) for p in points]
    sizes = [point.bytes / MIB for point in points]
    span = max(sizes) - min(sizes) or 1.0
    x = across("mib", "download, MiB", (min(sizes) - 0.08 * span, max(sizes) + 0.12 * span))
    losses = [end for point in points for end in (point.low, point.high) if end > 0]
    title = "distance (mean KL, nats)" if is_language else "distance (1 − cosine)"
    y = across("loss", title, (0.7 * min(losses), 1.5 * max(losses)), log=True)
    y["axis"] = {**y["axis"], "labelFlush": False, "orient": "left"}
    values = _points(points, x, y, is_language)
    spread = "its 95 % interval" if is_language else "how far the worst 1 % of the texts go"
    return Figure(
        id="frontier",
        title="Size against quality",
        text="Left is smaller, lower is nearer to full precision. The line joins the artifacts "
        f"that no other beats in both; the bar through a point is {spread}.",
        spec=_frontier(values, x, y),
        tables=(_points_table(points, title),),
    )


def best(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in size and loss, from the smallest."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.bytes, p.loss)):
        if not kept or point.loss < kept[-1].loss:
            kept.append(point)
    return kept


def _points(points: Sequence[Point], x: Spec, y: Spec, is_language: bool) -> Values:
    front = {point.name for point in best(points)}
    ordered = sorted(points, key=lambda p: (p.name not in front, p.bytes))
    places = _places(ordered, x["scale"]["domain"], y["scale"]["domain"])
    return [
        {
            "name": point.name,
            "format": point.format,
            "mib": point.bytes / MIB,
            "loss": point.loss,
            "low": point.low,
            "high": point.high,
            "best": point.name in front,
            "place": place,
            "tip": f"{point.name}: {format_bytes(point.bytes)}, "
            + (f"KL {point.loss:.2e} nats" if is_language else f"1 − cosine {point.loss:.2e}"),
        }
        for point, place in zip(ordered, places, strict=True)
    ]


def _places(
    points: Sequence[Point], across: Sequence[float], up: Sequence[float]
) -> list[str | None]:
    """Where the name of each point has room on a phone, first come first served; None: nowhere."""
    spots = []
    for point in points:
        right = (point.bytes / MIB - across[0]) / (across[1] - across[0])
        above = math.log(point.loss / up[0]) / math.log(up[1] / up[0])
        spots.append((_WIDTH * right, _HEIGHT * (1 - above)))
    taken = [(px - 6, py - 6, px + 6, py + 6) for px, py in spots]
    places: list[str | None] = []
    for point, (px, py) in zip(points, spots, strict=True):
        wide, found = _LETTER * len(point.name), None
        for place, (align, dx, dy) in _PLACES.items():
            left = px + dx - (wide if align == "right" else 0)
            box = (left, py + dy - 7, left + wide, py + dy + 5)
            inside = box[0] >= 0 and box[2] <= _WIDTH and box[1] >= 0 and box[3] <= _HEIGHT
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found = place
                break
        places.append(found)
    return places


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _frontier(values: Values, x: Spec, y: Spec) -> Spec:
    formats = {f: c for f, c in _FORMATS.items() if f in {value["format"] for value in values}}
    colour: Spec = {
        "field": "format",
        "scale": {"domain": list(formats), "range": list(formats.values())},
        "legend": {"title": None, "orient": "top"} if len(formats) > 1 else None,
    }
    base: Spec = {"x": x, "y": y}
    named: list[Spec] = [
        {
            "transform": [{"filter": f"datum.place === '{place}'"}],
            "mark": {"type": "text", "align": align, "baseline": "middle", "dx": dx, "dy": dy},
            "encoding": {
                **base,
                "text": {"field": "name"},
                "color": {"condition": {"test": "datum.best", "value": INK}, "value": MUTED},
            },
        }
        for place, (align, dx, dy) in _PLACES.items()
    ]
    return {
        "data": {"name": DATA, "values": values},
        "width": "container",
        "height": _HEIGHT,
        "layer": [
            {
                "transform": [{"filter": "datum.best"}],
                "mark": {"type": "line", "color": MUTED, "strokeWidth": 1, "strokeDash": [4, 3]},
                "encoding": {**base, "order": {"field": "mib"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {
                    "x": x,
                    "y": {**y, "field": "low"},
                    "y2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {
                    **base,
                    "color": colour,
                    "shape": {"field": "format", "scale": {"domain": list(formats)}},
                    "tooltip": {"field": "tip"},
                },
            },
            *named,
        ],
    }


def _points_table(points: Sequence[Point], title: str) -> Table:
    front = {point.name for point in best(points)}
    rows = [
        [
            point.name,
            format_bytes(point.bytes),
            f"{point.loss:.2e}",
            f"{point.low:.2e} to {point.high:.2e}",
            "yes" if point.name in front else "no",
        ]
        for point in sorted(points, key=lambda point: point.bytes)
    ]
    columns = ("artifact", "download", title, "interval", "unbeaten")
    return Table("Size and quality of every artifact", columns, rows, frozenset({1, 2, 3}))
