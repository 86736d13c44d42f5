"""`edgeq report`: gather, render, write atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import writable, write_text
from edgeq.core.terms import Progress
from edgeq.report.page.record import Report


def write_report(
    source: Path,
    out: Path | None,
    devices: Sequence[str],
    without_page: bool,
    progress: Progress,
) -> Report:
    """Return the report of a recipe or bundle, and write its page to `out` if given.

    Raises InvalidInput if neither a file nor `without_page` is given, or if devices are given for a
    bundle; Missing, before any work, if the charting packages are not installed.
    """
    from edgeq.report.page.gather import report_of

    if out is None and not without_page:
        remedy = "add -o report.html, or --json for the data alone"
        raise InvalidInput(Problem("--out", "no output file is named", remedy))
    if out is not None:
        from edgeq.report.page.render import require

        require()
        writable(out, "--out", ".html")
    report = report_of(source, devices, progress)
    if out is not None:
        write_page(report, out, progress)
    return report


def open_report(source: Path, devices: Sequence[str], progress: Progress) -> Report:
    """Return the report of a recipe or bundle, or the one contained in a page of `edgeq report`.

    Raises InvalidInput if devices are given for a page or bundle, and what making the report
    raises.
    """
    from edgeq.report.page.gather import report_of
    from edgeq.report.page.record import read_report

    if source.suffix != ".html":
        return report_of(source, devices, progress)
    if devices:
        remedy = "leave --device out, or name the recipe"
        raise InvalidInput(
            Problem("--device", "a page holds results of its own devices only", remedy)
        )
    return read_report(source)


def write_page(report: Report, out: Path, progress: Progress = lambda step: None) -> None:
    """Write the page of `report` to `out` atomically."""
    from edgeq.report.page.render import render

    write_text(out, render(report, progress))
