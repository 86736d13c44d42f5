"""Published speeds of language models on real devices: the data behind estimates.

`speeds.csv` holds figures with their sources. A row from which bandwidth cannot be inferred (a
mixture of experts reads a part of its bytes, a throttled device less than it could) names the
reason in `left_out`; it is kept for reference and not fitted.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).parent / "speeds.csv"
_GIB = 2**30


@dataclass(frozen=True)
class Point:
    """One measured speed.

    chip: what is left out together when a fit is evaluated. bandwidth: bytes/s. bytes: read for one
    token, the size of the weights. parameters: of the model. decode, prompt: tokens/s, None if not
    published.
    """

    chip: str
    device: str
    units: str
    backend: str
    bandwidth: float
    model: str
    quant: str
    bytes: float
    parameters: float
    decode: float
    prompt: float | None
    source: str
    note: str


@functools.cache
def points() -> tuple[Point, ...]:
    """Every row of the table that a fit may use."""
    with _FILE.open(newline="", encoding="utf-8") as file:
        return tuple(_point(row) for row in csv.DictReader(file) if not row["left_out"])


def _point(row: dict[str, str]) -> Point:
    return Point(
        chip=row["chip"],
        device=row["device"],
        units=row["units"],
        backend=row["backend"],
        bandwidth=float(row["bandwidth_GBps"]) * 1e9,
        model=row["model"],
        quant=row["quant"],
        bytes=float(row["size_GiB"]) * _GIB,
        parameters=float(row["params_B"]) * 1e9,
        decode=float(row["decode_tps"]),
        prompt=float(row["prompt_tps"]) if row["prompt_tps"] else None,
        source=row["source"],
        note=row["note"],
    )
