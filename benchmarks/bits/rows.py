"""The rows of the table, and the file that keeps them."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

_PACKAGES = ("onnxruntime", "xllamacpp", "coremltools", "torch", "transformers", "numpy")


@dataclass(frozen=True)
class Row:
    """One file of a model.

    distance: from the model in full precision, a mean KL divergence or 1 − cosine; error: its
    standard error; p99, p999: quantiles. against: the peer of the same bytes; without one, a file
    of ours stands against every peer that is no smaller. seconds, peak_mib: CPU time and resident
    memory of making it, beyond what rows before it had made; None if that was interrupted. texts:
    of calibration and evaluation, the starts of their SHA-256 and the windows.
    """

    model: str
    format: str
    file: str
    bytes: int
    ours: bool
    distance: float
    error: float
    p99: float
    p999: float
    seconds: float | None
    peak_mib: float | None
    measure: str
    texts: str
    against: str = ""


def best_peer(row: Row, rows: Iterable[Row]) -> Row | None:
    """The best of the peers that a file of ours stands against."""
    peers = (
        each
        for each in rows
        if (each.model, each.format, each.ours) == (row.model, row.format, False)
        and (each.file == row.against if row.against else each.bytes >= row.bytes)
    )
    return min(peers, key=lambda peer: peer.distance, default=None)


class Table:
    """Rows in a file, written after each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
        self.rows = [Row(**row) for row in kept["rows"]]

    def find(self, model: str, format: str, file: str, texts: str) -> Row | None:
        """The row of a file, if it was measured before on the same texts."""
        wanted = (model, format, file, texts)
        return next((r for r in self.rows if (r.model, r.format, r.file, r.texts) == wanted), None)

    def add(self, row: Row) -> None:
        """Keep a row."""
        self.rows.append(row)
        content = {"versions": versions(), "rows": [asdict(each) for each in self.rows]}
        self._path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def page(self) -> str:
        """Versions and tables as Markdown."""
        content = json.loads(self._path.read_text(encoding="utf-8"))
        said = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
        return f"{said}.\n\n{markdown(self.rows)}"


def versions() -> dict[str, str]:
    """Of what made and ran the files."""
    from edgeq.devices.detect import detect

    found = {"python": platform.python_version(), "processor": detect().chip}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def markdown(rows: Sequence[Row]) -> str:
    """The rows as tables, one for each model and file format."""
    lines = []
    for model, format in dict.fromkeys((row.model, row.format) for row in rows):
        own = [row for row in rows if (row.model, row.format) == (model, format)]
        lines += [f"## {model}, {format}", ""]
        lines.append(f"| file | MB | {own[0].measure} | 99 % | 99.9 % | ratio | CPU s | peak MiB |")
        lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
        lines += [_line(row, rows) for row in own]
        lines.append("")
    return "\n".join(lines)


def _line(row: Row, rows: Sequence[Row]) -> str:
    peer = best_peer(row, rows) if row.ours else None
    ratio = f"{row.distance / peer.distance:.2f}" if peer else ""
    figures = (
        f"{row.bytes / 1e6:.2f}",
        f"{row.distance:.5f} ± {row.error:.5f}",
        f"{row.p99:.3g}",
        f"{row.p999:.3g}",
        ratio,
        "" if row.seconds is None else f"{row.seconds:.0f}",
        "" if row.peak_mib is None else f"{row.peak_mib:.0f}",
    )
    return f"| {row.file} | {' | '.join(figures)} |"
