"""The chart of speed over time."""

from __future__ import annotations

import pytest

from edgeq.measure.records import Moment
from edgeq.measure.sustained import summarise_moments
from edgeq.report.page.figures import vega_lite
from edgeq.report.page.record import Report
from edgeq.report.page.sustained import sustained_figures
from tests.support import report_samples as samples
from tests.support.verdicts import language_model, spoken, verdict

vl_convert = pytest.importorskip("vl_convert", reason="the extra [report] is not installed")


@pytest.fixture
def report() -> Report:
    steps = [
        Moment(end_seconds=i + 1.0, tokens=10, seconds=1.0 if i < 30 else 2.0, celsius=40.0 + i)
        for i in range(60)
    ]
    told = spoken().model_copy(update={"sustained": summarise_moments(steps)})
    found = verdict({"speed": {"sustained": "4 tok/s"}}, measured=language_model(generation=told))
    return samples.report(verdicts=(found,))


def test_the_chart_falls_where_the_model_slowed_down(report: Report) -> None:
    (figure,) = sustained_figures(report)
    values = figure.spec["data"]["values"]
    assert [each["speed"] for each in values] == [10.0] * 30 + [5.0] * 30
    assert "5 tok/s at 60 s, 99 °C" in values[-1]["tip"]
    ((*_, first, slowest, which),) = figure.tables[0].rows
    assert (first, slowest, which) == ("10 tok/s", "5 tok/s", "4 of 5")


def test_it_compiles_and_shows_the_budget(report: Report) -> None:
    (figure,) = sustained_figures(report)
    assert {"limit": 4.0} in figure.spec["layer"][-1]["data"]["values"]
    compiled = vl_convert.vegalite_to_vega(vega_lite(figure))
    assert "table" in [data["name"] for data in compiled["data"]]


def test_without_such_a_run_there_is_no_chart() -> None:
    assert sustained_figures(samples.report()) == []
