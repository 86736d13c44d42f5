"""The page in words: verdicts at a glance, misses, and the origin of the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeq.core.units import format_bytes
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import Line, Status, Verdict
from edgeq.report.page.figures import Table
from edgeq.report.page.record import Report, ReportedDevice

SIGNS: dict[Status, str] = {"pass": "✓", "fail": "✗", "inconclusive": "≈", "not run": "–"}
_ORDER: tuple[Status, ...] = ("pass", "fail", "inconclusive", "not run")
_HOW = {
    "measured": "measured on this device itself",
    "emulated": "measured on a stand-in: a similar machine, a masked or emulated CPU, or a "
    "reference runtime",
    "estimated": "computed; fails a budget if its whole range misses it, never passes one",
    "not run": "no device or stand-in was available; never a pass",
}


@dataclass(frozen=True)
class Glance:
    """One artifact on one device in a line: its status, and the deciding figures."""

    artifact: str
    status: Status
    why: str


@dataclass(frozen=True)
class Card:
    """One device at a glance.

    best: the name of the artifact to ship, None if nothing passed. is_measured: whether every line
    passed on the device itself.
    """

    device: ReportedDevice
    rows: Sequence[Glance]
    status: Status
    words: str
    best: str | None
    is_measured: bool


@dataclass(frozen=True)
class Miss:
    """A budget that was missed or not measured by some artifacts on a device, and what to try."""

    where: str
    what: str
    remedy: str
    status: Status


def cards(report: Report) -> list[Card]:
    """One card per device with a verdict."""
    return [_card(report, device) for device in report.devices if _own(report, device)]


def _own(report: Report, device: ReportedDevice) -> list[Verdict]:
    return [verdict for verdict in report.verdicts if verdict.device == device.id]


def _card(report: Report, device: ReportedDevice) -> Card:
    own = _own(report, device)
    passed = [verdict for verdict in own if verdict.status == "pass"]
    best = min(passed, key=loss) if passed else None
    # The question for a device is whether any artifact can be shipped.
    statuses = {verdict.status for verdict in own}
    status = next(word for word in ("pass", "inconclusive", "not run", "fail") if word in statuses)
    counts = [(word, sum(v.status == word for v in own)) for word in _ORDER]
    words = ", ".join(f"{count} {word}" for word, count in counts if count)
    rows = [Glance(verdict.artifact, verdict.status, _why(verdict)) for verdict in own]
    is_measured = best is not None and all(line.how == "measured" for line in best.lines)
    return Card(device, rows, status, words, best.artifact if best else None, is_measured)


def loss(verdict: Verdict) -> tuple[float, int]:
    """Sort key for verdicts: nearest to full precision, then smallest; as `bundle` chooses."""
    measured = verdict.measurement
    if measured.language is not None:
        return measured.language.divergence.kl.mean, measured.download_bytes
    if measured.quality is not None:
        return -measured.quality.nearness, measured.download_bytes
    return float("inf"), measured.download_bytes


def foremost(report: Report) -> tuple[Card, Verdict]:
    """The artifact to ship on the first device that has one, or else a near miss.

    Needs a verdict in the report.
    """
    found = cards(report)
    card = next((card for card in found if card.best), found[0])
    own = _own(report, card.device)
    return card, min(own, key=lambda v: (v.artifact != card.best, _distance(v), loss(v)))


def _distance(verdict: Verdict) -> tuple[int, float]:
    """Sort key for nearness to the budgets: fewest failures, then smallest miss."""
    missing = [line for line in verdict.lines if line.status == "fail"]
    return len(missing), sum(-(line.margin_share or -1.0) for line in missing)


def headline(report: Report) -> str:
    """Summarize the verdicts in a sentence."""
    found = cards(report)
    ready = [card for card in found if card.best]
    if not found:
        return "Nothing was checked: this page shows what was built."
    if len(ready) == len(found):
        return f"Ready to ship on {_named(found)}."
    if ready:
        words = [f"Ready to ship on {_named(ready)}."]
        failed = [card for card in found if card.status == "fail"]
        rest = [card for card in found if not card.best and card.status != "fail"]
        words += [f"No artifact keeps every budget on {_named(failed)}."] if failed else []
        words += [f"Not proven on {_named(rest)}."] if rest else []
        return " ".join(words)
    if any(card.status == "fail" for card in found):
        return "No artifact keeps every budget yet."
    statuses = {card.status for card in found}
    why = "some lines are inconclusive" if "inconclusive" in statuses else "some lines were not run"
    return f"No artifact is proven to keep every budget yet: {why}."


def _named(found: Sequence[Card]) -> str:
    """Name devices, marking those that passed on a stand-in."""
    names = [
        f"{card.device.name} (emulated)" if card.best and not card.is_measured else card.device.name
        for card in found
    ]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def chosen(report: Report) -> list[str]:
    """Order artifacts by interest: the one to ship first."""
    best = [card.best for card in cards(report) if card.best]
    losses = {v.artifact: loss(v) for v in report.verdicts}
    rest = sorted(losses, key=lambda name: losses[name])
    return list(dict.fromkeys([*best, *rest]))


def _why(verdict: Verdict) -> str:
    """Return the deciding lines; for a pass, the one with the smallest margin."""
    if verdict.status != "pass":
        lines = [line for line in verdict.lines if line.status == verdict.status]
        return "; ".join(map(_against, lines))
    room = [line for line in verdict.lines if line.margin_share is not None]
    if not room:
        return ""
    line = min(room, key=lambda line: line.margin_share or 0.0)
    return f"smallest margin: {_against(line)}"


def _against(line: Line) -> str:
    sign = "≤" if line.bound == "at most" else "≥"
    limit = f"{sign} {format_value(line.limit, line.unit)}"
    if line.value is None:
        return f"{line.budget} {limit}: {'no result' if line.status == 'fail' else 'not run'}"
    seen = format_value(line.value, line.unit)
    how = "" if line.how == "measured" else f", {line.how}"
    return f"{line.budget} {seen} ({limit}{how})"


def misses(report: Report) -> list[Miss]:
    """Group every line that did not pass by its next step, failures first."""
    found: dict[tuple[Status, str, str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for verdict in report.verdicts:
        for line in verdict.lines:
            if line.status != "pass":
                # All lines not run on a device share one next step.
                is_open = line.status == "not run"
                what = line.budget if is_open else _by_how_much(line)
                place = (
                    verdict.device_name if is_open else verdict.artifact,
                    "" if is_open else what,
                )
                whats, others = found.setdefault((line.status, line.remedy, *place), ({}, {}))
                whats[what] = None
                others[verdict.artifact if is_open else verdict.device_name] = None
    rows = []
    for (status, remedy, first, _), (whats, others) in found.items():
        where = (others, (first,)) if status == "not run" else ((first,), others)
        text = ", ".join(whats)
        rows.append(Miss(" on ".join(", ".join(part) for part in where), text, remedy, status))
    return sorted(rows, key=lambda miss: ("fail", "inconclusive", "not run").index(miss.status))


def _by_how_much(line: Line) -> str:
    text = _against(line)
    if line.value is None:
        return f"{line.budget}: {line.reason}"
    if line.status == "inconclusive":
        return f"{text}: {_why_open(line)}"
    if line.margin is not None:
        return f"{text}: misses by {format_value(abs(line.margin), line.unit)}"
    return text


def _why_open(line: Line) -> str:
    """Say why a line is inconclusive: its interval, or its reason (samples, machine)."""
    if line.low is not None and line.low <= line.limit <= (line.high or float("inf")):
        return "the budget lies inside the 95 % interval"
    return line.reason


def verdict_table(verdict: Verdict) -> Table:
    """Table of every line of one verdict."""
    rows = []
    for line in verdict.lines:
        sign = "≤" if line.bound == "at most" else "≥"
        share = line.margin_share
        rows.append(
            [
                line.budget,
                f"{sign} {format_value(line.limit, line.unit)}",
                _value(line.value, line),
                _interval(line),
                _value(line.float_value, line),
                "" if share is None else f"{share:+.1%}",
                line.how,
                f"{SIGNS[line.status]} {line.status}",
                "; ".join(filter(None, [line.reason, line.remedy and f"next: {line.remedy}"])),
            ]
        )
    columns = ("budget", "limit", "seen", "95 % interval", "full precision", "margin", "how",
               "verdict", "note")  # fmt: skip
    caption = f"{verdict.artifact} on {verdict.device_name}: {verdict.status}"
    return Table(caption, columns, rows, frozenset(range(1, 6)))


def _value(value: float | None, line: Line) -> str:
    return "" if value is None else format_value(value, line.unit)


def _interval(line: Line) -> str:
    if line.low is None:
        return ""
    high = "no upper end" if line.high is None else format_value(line.high, line.unit)
    return f"{format_value(line.low, line.unit)} to {high}"


def how_table(report: Report) -> Table:
    """Table of how figures are known: how many lines, and which."""
    rows = []
    for how, meaning in _HOW.items():
        lines = [(v, line) for v in report.verdicts for line in v.lines if line.how == how]
        budgets = ", ".join(dict.fromkeys(line.budget for _, line in lines))
        devices = ", ".join(dict.fromkeys(verdict.device_name for verdict, _ in lines))
        rows.append([how, meaning, str(len(lines)), budgets, devices])
    columns = ("word", "means", "lines", "budgets", "devices")
    return Table("How each figure is known", columns, rows, frozenset({2}))


def version_table(report: Report) -> Table:
    """Table of the versions that made and ran everything."""
    found = {("edgeq", report.version): "this report"}
    for artifact in report.artifacts:
        for tool, version in artifact.record.tools.items():
            found[tool, version] = "building"
    for conditions in _conditions(report):
        found[conditions[0]] = conditions[1]
    rows = [[name, version, use] for (name, version), use in found.items()]
    return Table("Versions", ("what", "version", "for"), rows)


def _conditions(report: Report) -> Iterator[tuple[tuple[str, str], str]]:
    for pair in report.measurements():
        for measured in pair:
            passes = (measured.memory, measured.latency, measured.generation)
            for each in (*passes, measured.quality, measured.language):
                if each is not None:
                    seen = each.conditions
                    name, _, version = seen.runtime.partition(" ")
                    yield (name, version), "running"
                    yield ("system", seen.system), "running"
                    yield ("processor", f"{seen.cpu}, {seen.threads} threads"), "running"


def hash_table(report: Report) -> Table:
    """Table of every SHA-256: artifacts, their files, and their inputs."""
    rows = []
    for artifact in report.artifacts:
        record = artifact.record
        rows.append([record.name, "artifact.json", "", artifact.sha256])
        rows += [
            [record.name, name, format_bytes(file.bytes), file.sha256]
            for name, file in record.files.items()
        ]
    sources = {
        (f"model {each.record.model.source}", each.record.model.sha256) for each in report.artifacts
    }
    sources |= {
        (name, sha256) for each in report.artifacts for name, sha256 in each.record.sources.items()
    }
    rows += [["went in", name, "", sha256] for name, sha256 in sorted(sources)]
    return Table("SHA-256 of every file", ("of", "file", "size", "SHA-256"), rows, frozenset({2}))
