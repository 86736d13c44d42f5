"""Print a plan's estimates for its artifacts on its devices: a table of at most 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.table import Table

from edgeq.core.units import format_bytes, format_seconds, format_speed
from edgeq.devices.catalogue import Device
from edgeq.estimate.devices import Estimates
from edgeq.estimate.interval import Interval
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table
from edgeq.report.terminal import print_wrapped


def print_expected(
    estimates: Mapping[str, Mapping[str, Estimates]],
    devices: Mapping[str, Device],
    console: Console,
) -> None:
    """Print memory and speed, each with its 90 % range."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    for name in ("device", "artifact", "memory", "speed"):
        table.add_column(name, overflow="fold", no_wrap=name in ("device", "artifact"))
    bases: dict[str, None] = {}
    for id, device in devices.items():
        for artifact, own in estimates.items():
            if id not in own:
                continue
            memory = own[id].memory.counted(device.counts)
            fits = memory.high <= device.app_limit().bytes
            shown = Text(_range(memory, format_bytes), style="" if fits else "yellow")
            table.add_row(id, artifact, shown, _speed(own[id]))
            bases |= dict.fromkeys(_bases(memory, own[id]))
    if not table.rows:
        return
    console.print("\nto expect (estimated, with the range for nine cases in ten):")
    print_table(table, console)
    for basis in bases:
        print_wrapped(basis, "dim", console)


def _speed(estimates: Estimates) -> str:
    if estimates.decode is not None:
        return _range(estimates.decode, format_speed)
    if estimates.latency is not None:
        return _range(estimates.latency, format_seconds)
    return "?"


def _bases(memory: Interval, estimates: Estimates) -> list[str]:
    found = [f"memory: {memory.basis}"]
    speed = estimates.decode or estimates.latency
    if speed is not None:
        found.append(f"speed: {speed.basis}")
    return found + ([f"speed: {estimates.unknown}"] if estimates.unknown else [])


def _range(found: Interval, shown: Callable[[float], str]) -> str:
    """Format a value and its range as `12.1 MiB (9.0–15)`, with the unit once."""
    value = shown(found.value)
    low, high = (shown(end).rsplit(" ", 1) for end in (found.low, found.high))
    shared = value.rsplit(" ", 1)[-1]
    ends = "–".join(
        number if unit == shared else f"{number} {unit}" for number, unit in (low, high)
    )
    return f"{value} ({ends})"
