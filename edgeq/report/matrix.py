"""Print a matrix: recipes × devices with a verdict for each artifact, in 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.table import Table

from edgeq.core.terms import How
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import Line
from edgeq.pipeline.matrix.run import Judged
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table
from edgeq.report.terminal import STATUS_STYLES, print_verdict, print_wrapped

_GAP = 2
_HOWS: tuple[How, ...] = ("measured", "emulated", "estimated", "not run")


def print_matrix(judged: Sequence[Judged], console: Console, *, lines: bool) -> None:
    """Print the table, the source of each device's figures, and every line that did not pass.

    lines: print every line of every verdict first.
    """
    if lines:
        for each in judged:
            print_verdict(each.verdict, console)
            console.print()
    names = [f"{each.recipe}: {each.verdict.artifact}" for each in judged]
    devices = list(dict.fromkeys(each.verdict.device for each in judged))
    for some in _fitting(devices, max(map(len, names), default=0), console.width):
        print_table(_table(judged, some), console)
        console.print()
    for device in devices:
        own = [each for each in judged if each.verdict.device == device]
        hows = Counter(line.how for each in own for line in each.verdict.lines)
        known = ", ".join(f"{hows[how]} {how}" for how in _HOWS if hows[how])
        print_wrapped(f"{device}, lines: {known}", "", console)
    for text in _shortfalls(judged):
        print_wrapped(text, "", console)


def _fitting(devices: Sequence[str], first: int, width: int) -> Iterator[list[str]]:
    """Split the devices into groups that fit next to a first column of `first` letters."""
    group: list[str] = []
    used = first
    for device in devices:
        own = _GAP + max(len(device), *map(len, STATUS_STYLES))
        if group and used + own > width:
            yield group
            group, used = [], first
        group.append(device)
        used += own
    if group:
        yield group


def _table(judged: Sequence[Judged], devices: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="")
    table.add_column("recipe: artifact", no_wrap=True)
    for device in devices:
        table.add_column(device, no_wrap=True)
    found = {(each.recipe, each.verdict.artifact, each.verdict.device): each for each in judged}
    for recipe, artifact in dict.fromkeys((each.recipe, each.verdict.artifact) for each in judged):
        cells = []
        for device in devices:
            each = found.get((recipe, artifact, device))
            status = each.verdict.status if each else None
            cells.append(Text(status, style=STATUS_STYLES[status]) if status else Text("-"))
        table.add_row(f"{recipe}: {artifact}", *cells)
    return table


def _shortfalls(judged: Sequence[Judged]) -> Iterator[str]:
    """List each line that failed or was inconclusive; lines not run, once per reason."""
    absent: dict[tuple[str, str], list[str]] = {}
    for each in judged:
        verdict = each.verdict
        name = f"{each.recipe}: {verdict.artifact} on {verdict.device}"
        for line in verdict.lines:
            if line.status in ("fail", "inconclusive"):
                yield f"{line.status}: {name}: {_missed(line)}"
            elif line.status == "not run":
                budgets = absent.setdefault((verdict.device, line.reason), [])
                if line.budget not in budgets:
                    budgets.append(line.budget)
    for (device, reason), budgets in absent.items():
        yield f"not run: {', '.join(budgets)} on {device}: {reason}"


def _missed(line: Line) -> str:
    seen = "nothing" if line.value is None else format_value(line.value, line.unit)
    text = f"{line.budget} {seen} ({line.how}), wanted {line.bound} "
    text += format_value(line.limit, line.unit)
    return f"{text}; next: {line.remedy}" if line.remedy else text
