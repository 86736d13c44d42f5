"""Size against quality: every artifact as a point, with a line through the Pareto frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeq.core.artifact import Artifact
from edgeq.core.tasks import task_of
from edgeq.core.units import MIB, format_bytes
from edgeq.measure.records import Measurement
from edgeq.pipeline.frontier import records
from edgeq.quantize.methods.importance import IMPORTANCE
from edgeq.report.page.figures import DATA, INK, MUTED, Figure, Spec, Table, Values, across
from edgeq.report.page.record import Report

ALLOCATION, MIX, PRESET = "allocation", "llama.cpp mix", "preset"
_MADE = {ALLOCATION: "var(--accent)", MIX: "var(--m2)", PRESET: "var(--m3)"}
_Box = tuple[float, float, float, float]
# width of the plot on a phone and of its letters, in pixels
_WIDTH, _HEIGHT, _LETTER = 255, 340, 6.9
# Labels next to a point: alignment, and pixels right and down. The best points fall to the right,
# so that there is room above right and below left of them.
_PLACES: dict[str, tuple[str, int, int]] = {
    "above right": ("left", 8, -9),
    "below left": ("right", -8, 12),
    "below right": ("left", 8, 12),
    "above left": ("right", -8, -9),
}
_NORMAL_95 = 1.959963984540054  # half a 95 % interval, in standard errors


@dataclass(frozen=True)
class Point:
    """An artifact plotted by size and loss; loss is KL in nats, or 1 − cosine.

    low, high: ends of its error bar. made: how its number formats were chosen. own: whether the
    recipe makes it.
    """

    name: str
    format: str
    bytes: int
    loss: float
    low: float
    high: float
    made: str = PRESET
    own: bool = True


def frontier_figure(report: Report) -> Figure | None:
    """Plot the recipe's artifacts and everything that `edgeq frontier` measured.

    None with fewer than two points.
    """
    found = {point.name: point for point in _measured(report)}
    if report.frontier is not None:
        for each in report.frontier.points:
            own = found.get(each.name)
            # the recipe's rules make another artifact of the same name
            same = own is not None and own.bytes == each.bytes
            name = each.name if own is None or same else f"{each.name}, no rules"
            found[name] = _known(each, name, own=same)
    points = list(found.values())
    return _figure(report, points) if len(points) > 1 else None


def frontier_note(report: Report) -> str:
    """The command to compare with other mixes and sizes; empty if that was already measured."""
    is_compared = not task_of(report.task).takes_arrays
    if report.frontier is not None or not is_compared:
        return ""
    return (
        "Other standard mixes, and what edgeq would choose at other sizes, were not measured; "
        f"run: edgeq frontier {report.recipe_path}"
    )


def _measured(report: Report) -> list[Point]:
    """The recipe's artifacts with a measured quality."""
    points = []
    fitted = {each.record.name for each in report.artifacts if each.fitted is not None}
    mixes = {each.record.name for each in report.artifacts if _is_mix(each.record)}
    for measured, _ in report.measurements():
        name = measured.artifact
        made = ALLOCATION if name in fitted else MIX if name in mixes else PRESET
        ends = _ends(measured, bars=report.frontier is None)
        if ends is not None:
            points.append(Point(name, measured.format, measured.download_bytes, *ends, made))
    return points


def _is_mix(record: Artifact) -> bool:
    return record.settings.get("method") == IMPORTANCE.name


def _ends(measured: Measurement, *, bars: bool) -> tuple[float, float, float] | None:
    """Return the loss and the ends of its bar; None if quality was not measured.

    bars: whether to draw an encoder's bar, which is not an interval of its mean.
    """
    if measured.language is not None:
        kl = measured.language.divergence.kl
        half = _NORMAL_95 * kl.mean_se
        return kl.mean, max(kl.mean - half, kl.mean / 10), kl.mean + half
    if measured.quality is not None:
        quality = measured.quality
        loss = 1 - quality.nearness
        worst = min(quality.outputs.values(), key=lambda o: o.cosine_mean, default=None)
        return loss, loss, 1 - worst.cosine_low if bars and worst else loss
    return None


def _known(each: records.Point, name: str, *, own: bool) -> Point:
    half = _NORMAL_95 * each.error
    ends = (max(each.loss - half, each.loss / 10), each.loss + half)
    return Point(name, each.format, each.bytes, each.loss, *ends, each.made_by, own)


def _figure(report: Report, points: Sequence[Point]) -> Figure:
    is_language = task_of(report.task).generates
    least = min((p.loss for p in points if p.loss > 0), default=1e-9)
    points = [p if p.loss > 0 else replace(p, loss=least, low=least, high=least) for p in points]
    sizes = [point.bytes / MIB for point in points]
    span = max(sizes) - min(sizes) or 1.0
    x = across("mib", "download, MiB", (min(sizes) - 0.08 * span, max(sizes) + 0.12 * span))
    losses = [end for point in points for end in (point.low, point.high) if end > 0]
    title = "distance (mean KL, nats)" if is_language else "distance (1 − cosine)"
    y = across("loss", title, (0.7 * min(losses), 1.5 * max(losses)), log=True)
    y["axis"] = {**y["axis"], "labelFlush": False, "orient": "left"}
    return Figure(
        id="frontier",
        title="Size against quality",
        text=_text(report, is_language),
        spec=_frontier(_points(points, x, y, is_language), x, y),
        tables=(_points_table(points, title),),
    )


def _text(report: Report, is_language: bool) -> str:
    interval = is_language or report.frontier is not None
    spread = "its 95 % interval" if interval else "how far the worst 1 % of the texts go"
    text = (
        "Left is smaller, lower is nearer to full precision. The dashed line joins the points "
        f"that no other beats in both; the bar through a point is {spread}."
    )
    if report.frontier is None:
        return text
    return (
        f"{text} Ringed points are this recipe's; the others were measured by edgeq frontier on "
        f"the same data ({report.frontier.data}): standard formats, and number "
        "formats that edgeq chose for other sizes. A file measured by both is shown where edgeq "
        "frontier measured it."
    )


def best(points: Sequence[Point]) -> list[Point]:
    """Return the Pareto-optimal points, smallest first."""
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
            "made": point.made,
            "own": point.own,
            "best": point.name in front,
            "place": place,
            "tip": f"{point.name}: {format_bytes(point.bytes)}, "
            + (f"KL {point.loss:.2e} nats" if is_language else f"1 − cosine {point.loss:.2e}")
            + f", {point.made}",
        }
        for point, place in zip(ordered, places, strict=True)
    ]


def _places(
    points: Sequence[Point], across: Sequence[float], up: Sequence[float]
) -> list[str | None]:
    """Find where each label fits on a phone, in order of priority; None if it fits nowhere."""
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
    used = {value["made"] for value in values}
    made = {word: colour for word, colour in _MADE.items() if word in used}
    formats = list(dict.fromkeys(value["format"] for value in values))
    legend: Spec = {"title": None, "orient": "top", "columns": 3}
    colour: Spec = {
        "field": "made",
        "scale": {"domain": list(made), "range": list(made.values())},
        "legend": legend if len(made) > 1 else None,
    }
    shape: Spec = {
        "field": "format",
        "scale": {"domain": formats},
        "legend": {**legend, "symbolFillColor": MUTED} if len(formats) > 1 else None,
    }
    base: Spec = {"x": x, "y": y}
    # If the recipe makes all points, no legend is needed.
    ringed = "datum.own" if not all(value["own"] for value in values) else "false"
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
                    "shape": shape,
                    "stroke": {"condition": {"test": ringed, "value": INK}, "value": None},
                    "tooltip": {"field": "tip"},
                },
            },
            *_names(base),
        ],
    }


def _names(base: Spec) -> list[Spec]:
    """Labels of the points, each on the side where it fits."""
    return [
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


def _points_table(points: Sequence[Point], title: str) -> Table:
    front = {point.name for point in best(points)}
    rows = [
        [
            point.name,
            format_bytes(point.bytes),
            f"{point.loss:.2e}",
            f"{point.low:.2e} to {point.high:.2e}",
            point.made,
            "yes" if point.name in front else "no",
        ]
        for point in sorted(points, key=lambda point: point.bytes)
    ]
    columns = ("artifact", "download", title, "interval", "made by", "unbeaten")
    return Table("Size and quality of every artifact", columns, rows, frozenset({1, 2, 3}))
