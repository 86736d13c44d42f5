"""Divergence of quantized models from full precision, as a distribution over tokens."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.measure.disagreement import Histogram
from edgeq.measure.divergence import Divergence
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
from edgeq.report.page.frontier import frontier_figure
from edgeq.report.page.record import Report


def distance_figures(report: Report) -> list[Figure]:
    """Return divergence by token for language models, then size against quality if measured."""
    found: dict[str, Divergence] = {}
    for measured, _ in report.measurements():
        if measured.language is not None:
            found[measured.artifact] = measured.language.divergence
    histograms = {n: d.histogram for n, d in found.items() if d.histogram is not None}
    figures = []
    if histograms:
        figures.append(_tokens_figure(report, found, histograms))
    frontier = frontier_figure(report)
    return [*figures, *([frontier] if frontier else [])]


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
        _marks_layer(marks, x, frame.y("top"), 14 + 15 * len(limits)),
        *limit_rules(limits, x),
    ]
    return Figure(
        id="tokens",
        title="How far each next-word prediction moved",
        text="Every scored token of the evaluation text, by how far the quantized model's "
        "prediction is from full precision's: further right is worse. The noise floor is what "
        "rounding alone does to a model compared with itself; left of it, "
        "differences mean nothing.",
        spec=frame.spec(x, values),
        tables=(_tokens_table(found),),
    )


_MARKS: Mapping[str, tuple[str, list[int]]] = {
    "noise floor": (MUTED, [3, 3]),
    "mean": (INK, [1, 0]),
    "99 % of tokens": ("var(--m2)", [1, 0]),
}


def _marks_layer(marks: Values, x: Spec, y: Spec, offset: int) -> Spec:
    """Rules at the marks of each model. offset: pixels of their legend above the figure."""
    domain = list(_MARKS)
    colours, dashes = zip(*_MARKS.values(), strict=True)
    legend = {
        "title": None,
        "orient": "top",
        "columns": 3,
        "symbolType": "stroke",
        "symbolStrokeWidth": 2,
        "offset": offset,
    }
    return {
        "data": {"values": marks},
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {
            "x": {**x, "field": "at"},
            "y": y,
            "y2": {"field": "bottom"},
            "color": {
                "field": "mark",
                "scale": {"domain": domain, "range": list(colours)},
                "legend": legend,
            },
            "strokeDash": {"field": "mark", "scale": {"domain": domain, "range": list(dashes)}},
            "tooltip": {"field": "tip"},
        },
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
        "largest", "noise floor", "same most likely token",
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
