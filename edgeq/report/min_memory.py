"""Print the result of `edgeq min-memory`: every limit that was tried, then the verdict."""

from __future__ import annotations

from rich.table import Table

from edgeq.core.units import format_bytes, format_seconds
from edgeq.pipeline.check.min_memory import AppVerdict, MinMemory
from edgeq.places.limits.records import Trial
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table
from edgeq.report.terminal import STATUS_STYLES, print_wrapped

_STYLES = {"fits": "green", "too slow": "yellow", "killed": "bold red"}


def print_min_memory(found: MinMemory, console: Console) -> None:
    """Print the trials by limit, the smallest sufficient limit and the device's; 80 columns."""
    console.print(
        Text.assemble(
            (f"{found.artifact} on {found.device}", "bold"),
            f" ({found.device_name}): ",
            (found.status, STATUS_STYLES[found.status]),
        )
    )
    print_table(_table(found), console)
    for text in _sentences(found):
        print_wrapped(text, "", console)
    for note in found.notes:
        print_wrapped(note, "yellow", console)
    print_table(_limits(found), console)
    for text in dict.fromkeys(verdict.reason for verdict in found.verdicts if verdict.reason):
        print_wrapped(text, "", console)


def _table(found: MinMemory) -> Table:
    table = _plain("limit", "charged", "resident", "anonymous", "p50", "ratio", right=6)
    table.add_column("verdict", no_wrap=True)
    for trial in found.trials:
        table.add_row(
            f"{format_bytes(trial.limit_bytes)}",
            *(_size(size) for size in _sizes(trial)),
            "-" if trial.p50_seconds is None else format_seconds(trial.p50_seconds),
            "-" if trial.ratio is None else f"{trial.ratio:.2f}×",
            Text(trial.outcome, style=_STYLES[trial.outcome]),
        )
    table.add_row(
        "none",
        "-",
        _size(found.unlimited_high_water_bytes),
        _size(found.unlimited_anonymous_bytes),
        *_unlimited_time(found),
        "",
    )
    return table


def _sizes(trial: Trial) -> tuple[int | None, int | None, int | None]:
    return trial.group_peak_bytes, trial.high_water_bytes, trial.anonymous_peak_bytes


def _unlimited_time(found: MinMemory) -> tuple[str, str]:
    seen = [t.unlimited_p50_seconds for t in found.trials if t.unlimited_p50_seconds is not None]
    return (format_seconds(min(seen)), "1.00×") if seen else ("-", "-")


def _sentences(found: MinMemory) -> list[str]:
    conditions = f"{found.inputs}, {found.runtime}, {found.threads} threads"
    died = [trial.reason for trial in found.trials if trial.reason][-1:]
    if found.smallest_bytes is None:
        return [f"no tried limit is enough ({found.mechanism}; {conditions})", *died]
    own = max(0, found.smallest_bytes - found.baseline_bytes)
    return [
        f"{format_bytes(found.smallest_bytes)} is enough to stay within {found.slowdown:g} times "
        f"the time without a limit, to {format_bytes(found.resolution_bytes)}, "
        f"by {found.mechanism}",
        f"of these, {format_bytes(found.baseline_bytes)} are used by Python and the runtime, "
        f"which leaves {format_bytes(own)} for the model",
        conditions,
        "charged counts against the limit; resident also includes code shared with other processes",
        *died,
    ]


def _limits(found: MinMemory) -> Table:
    table = _plain("one app may use", "margin", right=2)
    for name in ("entitlement", "basis", "how", "verdict"):
        table.add_column(name, no_wrap=True)
    for verdict in found.verdicts:
        table.add_row(*_row(verdict), Text(verdict.status, style=STATUS_STYLES[verdict.status]))
    return table


def _row(verdict: AppVerdict) -> tuple[str, str, str, str, str]:
    limit = verdict.app_limit
    margin = verdict.margin_bytes
    return (
        format_bytes(limit.bytes),
        "-" if margin is None else format_bytes(margin),
        limit.entitlement,
        limit.basis,
        verdict.how,
    )


def _plain(*columns: str, right: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index < right else "left", no_wrap=True)
    return table


def _size(size: int | None) -> str:
    return "-" if size is None else format_bytes(size)
