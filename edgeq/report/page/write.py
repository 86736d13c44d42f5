"""`edgeq report`: gather, render, write atomically."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

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

    _require_output(out, without_page)
    report = report_of(source, devices, progress)
    if out is not None:
        write_page(report, out, progress)
    return report


def write_several(
    sources: Sequence[Path],
    out: Path | None,
    devices: Sequence[str],
    without_page: bool,
    progress: Progress,
) -> list[Report]:
    """Return the reports of several recipes, bundles or pages, and write one page with the first
    screen of each to `out` if given.

    Raises as `write_report` does.
    """
    _require_output(out, without_page)
    if out is not None and out.absolute() in [source.absolute() for source in sources]:
        raise InvalidInput(Problem("--out", f"{out} is one of the pages to show", "name another"))
    found = [open_report(source, devices, progress) for source in sources]
    if out is not None:
        from edgeq.report.page.render import render_several

        links = [_link(source, out) for source in sources]
        write_text(out, render_several([*zip(found, links, strict=True)]))
    return found


def _link(source: Path, out: Path) -> str | None:
    """The address of a page from another one; None for other sources."""
    if source.suffix != ".html":
        return None
    return quote(Path(os.path.relpath(source.absolute(), out.absolute().parent)).as_posix())


def _require_output(out: Path | None, without_page: bool) -> None:
    """Raise InvalidInput if no file is named where one is needed, or it cannot be written; Missing
    if the packages for a page are not installed.
    """
    if out is None and not without_page:
        remedy = "add -o report.html, or --json for the data alone"
        raise InvalidInput(Problem("--out", "no output file is named", remedy))
    if out is not None:
        from edgeq.report.page.render import require

        require()
        writable(out, "--out", ".html")


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
