"""Print a verdict: a table of at most 80 columns, coloured only where colour has a meaning."""

from __future__ import annotations

import textwrap

from rich.table import Table

from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import Line, Status, Verdict
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table

STATUS_STYLES: dict[Status, str] = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "not run": "dim",
}


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Print the table of one verdict, then reasons and remedies for its lines."""
    heading = Text.assemble(
        (f"{verdict.artifact} on {verdict.device}", "bold"),
        f" ({verdict.device_name}): ",
        (verdict.status, STATUS_STYLES[verdict.status]),
    )
    console.print(heading)
    print_table(_table(verdict), console)
    said: dict[str, list[str]] = {}
    limits = {trial.limit_bytes for trial in verdict.tried.trials} if verdict.tried else set()
    for line in verdict.lines:
        said.setdefault(_said(line, line.limit in limits), []).append(line.budget)
    for text, budgets in said.items():
        if text:
            print_wrapped(f"{', '.join(budgets)}: {text}", "", console)
    for note in verdict.notes:
        print_wrapped(note, "yellow", console)


def print_wrapped(text: str, style: str, console: Console) -> None:
    """Print `text` indented and wrapped to the console's width, without breaking words."""
    lines = textwrap.wrap(
        text,
        console.width,
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    console.print(Text("\n".join(lines), style=style), soft_wrap=True)  # keeps an address whole


def _table(verdict: Verdict) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    table.add_column("budget", no_wrap=True)
    for name in ("limit", "seen", "float", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("how", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for line in verdict.lines:
        sign = "<=" if line.bound == "at most" else ">="
        table.add_row(
            line.budget,
            f"{sign} {_short(line.limit, line)}",
            _short(line.value, line).removesuffix(" tok/s"),
            _short(line.float_value, line).removesuffix(" tok/s"),
            _percent(line.margin_share),
            line.how,
            Text(line.status, style=STATUS_STYLES[line.status]),
        )
    return table


def _short(value: float | None, line: Line) -> str:
    """The usual format, but without decimals from 100 MiB or ms, so that a row fits."""
    if value is None:
        return "-"
    number, _, unit = format_value(value, line.unit).partition(" ")
    if unit and float(number) >= 100:
        number = f"{float(number):.0f}"
    return f"{number} {unit}".rstrip()


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{share:+.1%}" if abs(share) < 1 else f"{share:+.0%}"


def _said(line: Line, tried: bool) -> str:
    """Interval, reason and remedy of a line, if it has any.

    tried: its limit was tested on hardware, and the reason gives the result.
    """
    parts = []
    if line.low is not None:
        high = "no upper end" if line.high is None else format_value(line.high, line.unit)
        what = "nine in ten" if line.how == "estimated" else "95 % interval"
        parts.append(f"{what} {format_value(line.low, line.unit)} to {high}")
    if line.reason and (tried or line.status != "pass" or line.low is not None):
        parts.append(line.reason)
    if line.remedy:
        parts.append(f"next: {line.remedy}")
    return "; ".join(parts)
