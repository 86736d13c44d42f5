"""Print the result of `edgeq recommend`: a table of at most 80 columns, one recommendation."""

from __future__ import annotations

from rich.table import Table

from edgeq.core.units import format_bytes, format_seconds
from edgeq.estimate.devices import Estimates
from edgeq.pipeline.recommend.recommend import Answer, Candidate
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table
from edgeq.report.terminal import print_wrapped

_STYLES = {"yes": "green", "likely": "yellow", "with entitlement": "yellow", "no": "red"}

_WORDS = {"with entitlement": "entitled"}  # as wide as the column


def print_recommendation(answer: Answer, console: Console) -> None:
    """Print every preset, which of them fit, the recommendation and the next step."""
    context = f", context {answer.context}" if answer.context else ""
    console.print(
        Text.assemble(
            (answer.model, "bold"),
            f" ({_count(answer.parameters)} parameters) on ",
            (answer.device, "bold"),
            f" ({answer.device_name})",
            f", for {answer.purpose}" if answer.purpose else "",
            context,
        )
    )
    limits = answer.limits
    more = f", {format_bytes(limits.entitled)} with the entitlement" if limits.entitled else ""
    words = (
        f"one app may use {format_bytes(limits.app)}{more} ({limits.basis}) "
        f"of {format_bytes(limits.ram)}"
    )
    print_wrapped(words, "", console)
    console.print("\nEverything below is estimated:")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    is_decoder = answer.context is not None
    speed = "tokens/s" if is_decoder else "one text" if answer.purpose else "one run"
    loss = "loss, KL" if is_decoder else "1 − cosine" if answer.purpose else "loss"
    for name in ("preset", "download", "memory", speed, loss, "fits"):
        table.add_column(name, justify="left" if name in ("preset", "fits") else "right")
    for one in answer.candidates:
        table.add_row(*_row(one), style="bold" if one.name == answer.chosen else None)
    print_table(table, console)
    for words in _notes(answer):
        print_wrapped(words, "dim", console)
    console.print()
    if answer.chosen is None:
        print_wrapped(answer.reason, "bold red", console)
    else:
        print_wrapped(f"recommended: {answer.chosen}: {answer.reason}", "green", console)
    console.print("next:" if answer.chosen is None else "next, a recipe to build and check:")
    for line in answer.next_step:
        console.print(f"  {line}", soft_wrap=True)


def _row(one: Candidate) -> tuple[str | Text, ...]:
    memory = f"{format_bytes(one.memory.value)}"
    return (
        one.name,
        format_bytes(one.download_bytes),
        memory,
        _speed(one.estimates),
        f"{one.loss.amount.value:.2g}" if one.loss else "?",
        Text(_WORDS.get(one.fits, one.fits), style=_STYLES[one.fits]),
    )


def _speed(estimates: Estimates) -> str:
    found = estimates.decode
    if found is not None:
        return f"{_rate(found.value)} ({_rate(found.low)}–{_rate(found.high)})"
    if estimates.latency is not None:
        return format_seconds(estimates.latency.value)
    return "?"


def _rate(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.2g}"


def _notes(answer: Answer) -> list[str]:
    """The basis of each column, once each."""
    notes: dict[str, None] = {}
    backends = {one.estimates.backend for one in answer.candidates}
    for one in answer.candidates:
        seen = one.estimates
        timed = seen.decode or seen.latency
        notes[f"memory: {one.memory.basis}"] = None
        notes[f"speed: {timed.basis if timed else seen.unknown}"] = None
        if one.loss:
            notes[f"loss: {one.loss.amount.basis.removeprefix('estimated: ')}"] = None
    return [f"backend: {', '.join(sorted(backends))}", *notes]


def _count(parameters: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if parameters >= size:
            return f"{parameters / size:.3g}{unit}"
    return str(parameters)
