"""Print a comparison across CPUs: a table of at most 80 columns, then reasons and fixes."""

from __future__ import annotations

from rich.table import Table

from edgeq.measure.cross_cpu.records import Differences, PlaceDifferences, Status
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table
from edgeq.report.terminal import print_wrapped

_STYLES: dict[Status, str] = {
    "same": "green",
    "cured": "green",
    "differs": "bold red",
    "not run": "dim",
}


def print_comparison(found: Differences, console: Console) -> None:
    """Print a row for each place, then reasons and fixes."""
    heading = f"{found.artifact}, each place compared with this machine ({found.reference})"
    console.print(Text(heading, style="bold"), soft_wrap=True)
    print_table(_table(found), console)
    texts: dict[str, list[str]] = {}
    for place in found.places:
        if place.reason or place.cure:
            texts.setdefault(_said(place), []).append(place.place)
    for text, places in texts.items():
        print_wrapped(f"{', '.join(places)}: {text}", "", console)


def _table(found: Differences) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    for name in ("place", "how", "answers"):
        table.add_column(name, no_wrap=True)
    table.add_column("operators", justify="right", no_wrap=True)
    table.add_column("outputs off by", justify="right", no_wrap=True)
    for place in found.places:
        table.add_row(
            place.place,
            place.how,
            Text(place.status, style=_STYLES[place.status]),
            f"{place.differing} of {place.compared}" if place.compared else "-",
            f"{place.whole.rms:.2%}" if place.whole else "-",
        )
    return table


def _said(place: PlaceDifferences) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in place.cure.items())
    if place.status == "cured":
        return f"without {settings}, which is set at load there, {place.reason}"
    if settings:
        return f"{place.reason}; next: set {settings}"
    return place.reason
