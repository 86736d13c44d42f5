"""What one wants to know first: what ships, how small, close, fast and light, and on what seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeq.core.tasks import Task, task_of
from edgeq.core.units import format_bytes, format_seconds, format_speed
from edgeq.measure.records import Conditions, Measurement
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import How, Line, Status, Verdict
from edgeq.report.page import words
from edgeq.report.page.record import Report

_HOW: dict[How, str] = {"measured": "", "emulated": ", emulated", "estimated": ", estimated"}


@dataclass(frozen=True)
class Tile:
    """One figure, and what it is compared with. status: of its budget, None without one."""

    figure: str
    words: str
    status: Status | None


@dataclass(frozen=True)
class FirstScreen:
    """The figures of the artifact to ship, or of the one that came nearest.

    what: names it. where: what the figures were measured on, and for which devices.
    """

    what: str
    tiles: tuple[Tile, ...]
    where: str


def first_screen(report: Report) -> FirstScreen | None:
    """The first screen of a page; None if nothing was checked."""
    if not words.cards(report):
        return None
    card, verdict = words.foremost(report)
    lead = "Ships" if card.best else "Came nearest"
    devices = ", ".join(dict.fromkeys(each.device_name for each in report.verdicts))
    return FirstScreen(
        what=f"{lead}: {verdict.artifact}, for {card.device.name}",
        tiles=tuple(_tiles(verdict, task_of(report.task))),
        where=f"Measured on {_machine(verdict.measurement)}. Judged for: {devices}.",
    )


def _tiles(verdict: Verdict, task: Task) -> Iterator[Tile]:
    own, original = verdict.measurement, verdict.float_measurement
    yield _size(verdict, own, original)
    close = _closeness(own, task)
    if close is not None:
        status = _status(line for line in verdict.lines if line.budget.startswith("quality."))
        yield Tile(*close, status)
    part = _worst_part(verdict)
    if close is None and part is not None:
        yield _against(part)
    line = _line(verdict, "latency.p90", "latency.p50", "speed.generation", "latency.first_token")
    pace = _against(line) if line else _pace(own)
    if pace is not None:
        yield pace
    line = _line(verdict, "memory.peak", "memory.growth", "device.memory")
    if line is not None:
        yield _against(line)


def _worst_part(verdict: Verdict) -> Line | None:
    """The line on the quality of a part that has the least room."""
    lines = [each for each in verdict.lines if ".quality." in each.budget]
    known = [each for each in lines if each.value is not None]
    return min(known, key=lambda each: each.margin_share or 0.0, default=None)


def _size(verdict: Verdict, own: Measurement, original: Measurement) -> Tile:
    line = _line(verdict, "size.download")
    ratio = original.download_bytes / own.download_bytes
    sizes = f"{format_bytes(own.download_bytes)} instead of {format_bytes(original.download_bytes)}"
    limit = f", {format_value(line.limit, line.unit)} allowed" if line else ""
    figure = f"{ratio:.1f} × smaller" if ratio > 1 else "not smaller"
    return Tile(figure, f"{sizes}{limit}", line.status if line else None)


def _closeness(own: Measurement, task: Task) -> tuple[str, str] | None:
    if own.language is not None:
        share = own.language.divergence.same_top1
        return f"{share:.1%}", "of next words are the ones that the original predicts"
    if own.quality is None:
        return None
    agreement = own.quality.scores.get("agreement")
    if agreement is not None:
        return f"{agreement.value:.1%}", task.agreement.format(noun=agreement.noun)
    return (
        f"{own.quality.nearness:.4f}",
        "similarity to the original's answers (cosine; 1 is identical)",
    )


def _pace(own: Measurement) -> Tile | None:
    """Time without a budget for it."""
    if own.latency is not None:
        return Tile(format_seconds(own.latency.p90.seconds), "a run at most, in 9 of 10", None)
    if own.generation is not None:
        speed = own.generation.generation_speed.tokens_per_second
        return Tile(format_speed(speed), "generated", None)
    return None


def _line(verdict: Verdict, *budgets: str) -> Line | None:
    """The first of these lines that has a value."""
    found = {line.budget: line for line in verdict.lines if line.value is not None}
    return next((found[name] for name in budgets if name in found), None)


def _against(line: Line) -> Tile:
    assert line.value is not None
    limit = format_value(line.limit, line.unit)
    bound = f"of {limit} allowed" if line.bound == "at most" else f"where {limit} is asked"
    before = f", {format_value(line.float_value, line.unit)} before" if line.float_value else ""
    said = f"{bound} ({line.budget}{_HOW.get(line.how, '')}){before}"
    return Tile(format_value(line.value, line.unit), said, line.status)


def _status(lines: Iterator[Line]) -> Status | None:
    """The worst of these lines' statuses."""
    found = {line.status for line in lines}
    order: tuple[Status, ...] = ("fail", "inconclusive", "not run", "pass")
    return next((status for status in order if status in found), None)


def _machine(own: Measurement) -> str:
    """The machine that ran it, from the conditions of any pass."""
    passes = (own.latency, own.generation, own.memory, own.quality, own.language)
    found: list[Conditions] = [each.conditions for each in passes if each is not None]
    return f"{found[0].cpu}, {found[0].system}" if found else "no machine yet"
