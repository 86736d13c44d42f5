"""How far quantized models are from full precision: distributions of tokens, and against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeq.measure.disagreement import Histogram
from edgeq.measure.divergence import Divergence
from edgeq.measure.records import Measurement
from edgeq.report.page.figures import (
    ACCENT,
    INK,
    MUTED,
    Figure,
    Rows,
    Spec,
    Table,
    Values,
    across,
    limit_rules,
)
from edgeq.report.page.record import Report
from edgeq.units import MIB, format_bytes

_FORMATS = {"gguf": "var(--m2)", "onnx": "var(--m3)", "coreml": "var(--m1)"}
_NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Point:
    """An artifact on the plane of size and loss; loss is KL in nats, or 1 − cosine."""

    name: str
    format: str
    bytes: int
    loss: float
    low: float
    high: float


def distance_figures(report: Report) -> list[Figure]:
    """Divergence by token, of language models; then size against quality, where it was measured."""
    found: dict[str, Divergence] = {}
    for measured, _ in report.measurements():
        if measured.language is not None:
            found[measured.artifact] = measured.language.divergence
    histograms = {n: d.histogram for n, d in found.items() if d.histogram is not None}
    figures = []
    if histograms:
        figures.append(_tokens_figure(report, found, histograms))
    points = [point for measured, _ in report.measurements() if (point := _point(measured))]
    if len(points) > 1:
        figures.append(_frontier_figure(report, points))
    return figures


def _tokens_figure(
    report: Report, found: Mapping[str, Divergence], histograms: Mapping[str, Histogram]
) -> Figure:
    limits = _limits(report, {"quality.kl": "mean", "quality.kl_p99": "99 %"})
    values, marks = _hills(found, histograms)
    ends = [value[key] for value in values for key in ("start", "end")]
    ends += [*(mark["at"] for mark in marks), *limits.values()]
    x = across("start", "distance of one prediction (KL, nats)", (min(ends), max(ends)), log=True)
    frame = Rows(list(histograms), height=70)
    frame.layers = [
        {
            "mark": {"type": "rect", "color": ACCENT},
            "encoding": {
                "x": x,
                "x2": {"field": "end"},
                "y": frame.y("top"),
                "y2": {"field": "bottom"},
                "tooltip": {"field": "tip"},
            },
        },
        {
            "data": {"values": marks},
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {
                "x": {**x, "field": "at"},
                "y": frame.y("top"),
                "y2": {"field": "bottom"},
                "color": {
                    "field": "mark",
                    "scale": {"domain": list(_MARKS), "range": [s[0] for s in _MARKS.values()]},
                    "legend": {
                        "title": None,
                        "orient": "top",
                        "columns": 3,
                        "symbolType": "stroke",
                        "symbolStrokeWidth": 2,
                        "offset": 14 + 15 * len(limits),
                    },
                },
                "strokeDash": {
                    "field": "mark",
                    "scale": {"domain": list(_MARKS), "range": [s[1] for s in _MARKS.values()]},
                },
                "tooltip": {"field": "tip"},
            },
        },
        *limit_rules(limits, x),
    ]
    return Figure(
        id="tokens",
        title="How far each next-word prediction moved",
        text="Every scored token of the evaluation text, by how far the quantized model's "
        "prediction is from full precision's: further right is worse. The noise floor is what "
        "rounding alone does to a model compared with itself; left of it nothing can be said.",
        spec=frame.spec(x, values),
        tables=(_tokens_table(found),),
    )


_MARKS: Mapping[str, tuple[str, list[int]]] = {
    "noise floor": (MUTED, [3, 3]),
    "mean": (INK, [1, 0]),
    "99 % of tokens": ("var(--m2)", [1, 0]),
}


def _hills(
    found: Mapping[str, Divergence], histograms: Mapping[str, Histogram]
) -> tuple[Values, Values]:
    values: Values = []
    marks: Values = []
    for index, (name, counted) in enumerate(histograms.items()):
        base, divergence = index + 0.94, found[name]
        for i, count in enumerate(counted.counts):
            if count:
                low, high = (counted.lowest * 10 ** (at / counted.per_decade) for at in (i, i + 1))
                values.append(
                    {
                        "row": name,
                        "count": count,
                        "start": low,
                        "end": high,
                        "top": base,
                        "bottom": base - 0.62 * max(0.03, count / max(counted.counts)),
                        "tip": f"{name}: {count} of {divergence.tokens} tokens, "
                        f"{low:.1e} to {high:.1e} nats",
                    }
                )
        floor = max(divergence.noise_floor, divergence.candidate_noise_floor)
        at = {"noise floor": floor, "mean": divergence.kl.mean, "99 % of tokens": divergence.kl.p99}
        marks += [
            {
                "mark": mark,
                "at": value,
                "top": base,
                "bottom": base - 0.62,
                "tip": f"{name}: {mark} {value:.2e} nats",
            }
            for mark, value in at.items()
            if value > counted.lowest
        ]
    return values, marks


def _tokens_table(found: Mapping[str, Divergence]) -> Table:
    columns = (
        "artifact", "tokens", "mean", "± standard error", "median", "90 %", "99 %", "99.9 %",
        "largest", "noise floor", "same likeliest token",
    )  # fmt: skip
    rows = []
    for name, each in found.items():
        kl = each.kl
        floor = max(each.noise_floor, each.candidate_noise_floor)
        figures = (kl.mean, kl.mean_se, kl.median, kl.p90, kl.p99, kl.p999, kl.max, floor)
        rows.append(
            [name, str(each.tokens), *(f"{value:.2e}" for value in figures),
             f"{each.same_top1:.2%}"]
        )  # fmt: skip
    return Table("KL divergence by token, in nats", columns, rows, frozenset(range(1, 11)))


def _limits(report: Report, budgets: Mapping[str, str]) -> dict[str, float]:
    return {
        f"budget {line.limit:g} ({budgets[line.budget]})": line.limit
        for verdict in report.verdicts
        for line in verdict.lines
        if line.budget in budgets
    }


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


def _frontier_figure(report: Report, points: Sequence[Point]) -> Figure:
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
    values = _points(points, x["scale"]["domain"][1], is_language)
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


def _points(points: Sequence[Point], end: float, is_language: bool) -> Values:
    front = {point.name for point in best(points)}
    values: Values = []
    lowest, highest = min(p.bytes for p in points) / MIB, end
    for point in sorted(points, key=lambda p: (p.name not in front, p.bytes)):
        at = (point.bytes / MIB - lowest) / (highest - lowest)
        values.append(
            {
                "name": point.name,
                "format": point.format,
                "mib": point.bytes / MIB,
                "loss": point.loss,
                "low": point.low,
                "high": point.high,
                "best": point.name in front,
                "side": "right" if at > 0.5 else "left",
                "tip": f"{point.name}: {format_bytes(point.bytes)}, "
                + (f"KL {point.loss:.2e} nats" if is_language else f"1 − cosine {point.loss:.2e}"),
            }
        )
    return values


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
            "transform": [{"filter": f"datum.best && datum.side === '{side}'"}],
            "mark": {"type": "text", "align": side, "dx": dx, "dy": dy},
            "encoding": {**base, "text": {"field": "name"}},
        }
        # The line falls to the right: names stand where it is not.
        for side, dx, dy in (("left", 6, -9), ("right", -6, 15))
    ]
    return {
        "data": {"name": "table", "values": values},
        "width": "container",
        "height": 340,
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
