"""What ships in an artifact of several models."""

from __future__ import annotations

from edgeq.core.units import format_bytes
from edgeq.report.explain.weights import formats, matrices
from edgeq.report.page.figures import Table
from edgeq.report.page.record import Report


def parts_table(report: Report) -> Table | None:
    """Table of what ships in each artifact of several parts; None if there is none."""
    rows = []
    for artifact in report.artifacts:
        record = artifact.record
        for part, runs in record.parts.items():
            inside = f"{part}/"
            own = [file.bytes for name, file in record.files.items() if name.startswith(inside)]
            tensors = {n: t for n, t in record.tensors.items() if n.startswith(inside)}
            stored = formats(matrices(tensors)) or "–"
            rows.append([record.name, part, stored, format_bytes(sum(own)), str(runs)])
    if not rows:
        return None
    columns = ("artifact", "part", "weights", "size", "runs for one answer")
    return Table("What ships: each part", columns, rows, frozenset({3, 4}))
