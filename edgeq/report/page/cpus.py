"""Differences between CPUs: per artifact, the operator responsible and its fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.measure.cross_cpu.records import Differences, PlaceDifferences
from edgeq.report.page.figures import Table
from edgeq.report.page.record import Report

_STATUSES = {
    "differs": "different",
    "cured": "the same with a setting of the loader",
    "same": "the same",
    "not run": "not run",
}


@dataclass(frozen=True)
class Compared:
    """One artifact on every available CPU. notes: why one differs or was not run."""

    title: str
    is_fine: bool
    table: Table
    notes: Sequence[str]


def compared(report: Report) -> list[Compared]:
    """Collect the results of each artifact that was compared across CPUs."""
    return [_compared(each) for each in report.differences()]


def _compared(found: Differences) -> Compared:
    counts = {word: sum(p.status == word for p in found.places) for word in _STATUSES}
    words = ", ".join(f"{count} {_STATUSES[word]}" for word, count in counts.items() if count)
    rows = [
        [
            place.place,
            _STATUSES[place.status],
            place.how,
            place.operator or "",
            f"{place.differing} of {place.compared}" if place.compared else "",
            ", ".join(f"{key}={value}" for key, value in place.cure.items()),
        ]
        for place in found.places
    ]
    columns = ("CPU", "answers", "how", "largest difference at", "operators that differ",
               "what the loader sets")  # fmt: skip
    return Compared(
        title=f"{found.artifact}: {words}",
        is_fine=not counts["differs"],
        table=Table(f"Answers of {found.artifact} compared with {found.reference}", columns, rows),
        notes=[_note(place) for place in found.places if place.reason],
    )


def _note(place: PlaceDifferences) -> str:
    """Return the reason in one line; some reasons already name their place."""
    reason = "; ".join(line.strip() for line in place.reason.splitlines())
    return f"{place.place}: {reason.removeprefix(f'{place.place}: ')}"
