"""Render a Report as one HTML file that loads nothing from the network."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any

from edgeq.core.errors import Missing, Problem
from edgeq.core.tasks import task_of
from edgeq.core.terms import Progress
from edgeq.report.explain.measured import facts_of
from edgeq.report.explain.piece import write
from edgeq.report.page import words
from edgeq.report.page.cpus import compared
from edgeq.report.page.distance import distance_figures
from edgeq.report.page.figures import Figure, chart
from edgeq.report.page.first_screen import first_screen
from edgeq.report.page.frontier import frontier_note
from edgeq.report.page.memory import memory_figures
from edgeq.report.page.parts import parts_table
from edgeq.report.page.record import Report, carried
from edgeq.report.page.sustained import sustained_figures
from edgeq.report.page.tensors import fitted_table, tensor_figure, tensor_tables
from edgeq.report.page.times import time_figures
from edgeq.report.page.transcripts import differing

_MOST_BYTES = 2_990_000
_TOKENS_SHOWN = 3  # worst tensors shown for each artifact before the reader expands the list


def require() -> None:
    """Raise Missing, with the install command, if a page cannot be written."""
    from importlib.util import find_spec

    absent = [name for name in ("jinja2", "vl_convert") if find_spec(name) is None]
    if absent:
        what = f"not installed: {', '.join(absent)}"
        raise Missing(Problem("report", what, 'install it with: pip install ".[report]"'))


def render(report: Report, progress: Progress = lambda step: None) -> str:
    """Render the page. Raises Missing if the charting packages are not installed."""
    template = _environment().get_template("page.html")
    progress("draw the charts")
    fixed = {
        "carried": carried(report),
        "library": _library(),
        "script": _template("page.js"),
    }
    order = words.chosen(report)
    for names in (None, order[:4], order[:1], []):  # tensors take up most of a large model's page
        page: str = template.render(**_content(report, names), **fixed)
        if len(page.encode()) < _MOST_BYTES:
            break
    return page + "\n"


def render_several(reports: Sequence[tuple[Report, str | None]]) -> str:
    """Render the first screens of several reports on one page, each with a link to its page."""
    models = [
        {
            "name": report.name,
            "headline": words.headline(report),
            "first": first_screen(report),
            "page": page,
        }
        for report, page in reports
    ]
    page: str = _environment().get_template("several.html").render(models=models)
    return page + "\n"


def _environment() -> Any:
    """The templates, and what is the same on every page."""
    require()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["chart"] = chart
    environment.globals["differing"] = differing
    environment.globals |= {
        "made": datetime.date.today().isoformat(),
        "signs": words.SIGNS,
        "style": _template("style.css"),
    }
    return environment


def _content(report: Report, names: Sequence[str] | None) -> dict[str, Any]:
    """Return the template's variables. names: artifacts whose tensors are listed, None for all."""
    figures: dict[str, list[Figure]] = {
        "memory": memory_figures(report),
        "times": [*time_figures(report), *sustained_figures(report)],
        "distance": distance_figures(report),
    }
    tensors = tensor_figure(report, names)
    order, task = words.chosen(report), task_of(report.task)
    measured = {m.artifact: m for m, _ in report.measurements()}
    languages = {n: m.language for n in order if (m := measured[n]).language is not None}
    qualities = {n: m.quality for n in order if (m := measured[n]).quality is not None}
    return {
        "report": report,
        "piece": write(facts_of(report)).piece if report.verdicts and report.artifacts else None,
        "headline": words.headline(report),
        "first": first_screen(report),
        "cards": words.cards(report),
        "misses": words.misses(report),
        "figures": figures,
        "tokens": {n: q.divergence.worst for n, q in languages.items() if q.divergence.worst},
        "tokens_shown": _TOKENS_SHOWN,
        "neighbours": {n: q.neighbours for n, q in qualities.items() if q.neighbours},
        "labels": {
            n: q for n, q in qualities.items() if task.classifies or task.tags or task.transcribes
        },
        "kept": "words" if task.transcribes else "labels",
        "boxes": {n: q for n, q in qualities.items() if task.detects and "agreement" in q.scores},
        "frontier_note": frontier_note(report),
        "fitted": fitted_table(report),
        "tensors": tensors,
        "tensor_tables": [] if tensors else tensor_tables(report, names),
        "compared": compared(report),
        "verdict_tables": [(v, words.verdict_table(v)) for v in report.verdicts],
        "parts": parts_table(report),
        "provenance": [words.how_table(report), words.version_table(report)],
        "hashes": words.hash_table(report),
    }


def _template(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _library() -> str:
    """The Vega and Vega-Lite library that draws the charts.

    The bundle does not export Vega under its own name, so its embedding function is called instead.
    """
    import vl_convert

    source: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return source.replace("</script", "<\\/script")
