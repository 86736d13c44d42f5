"""The rows of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One file of a model. error: largest relative RMS error of an output over the samples.

    differing: the share of an application's decisions that are others, for a model that makes some.

    Without figures, `note` says why there are none, or what edgeq's command line answered.
    """

    model: str
    file: str
    bytes: int | None = None
    milliseconds: float | None = None
    ratio: float | None = None
    error: float | None = None
    peak_bytes: int | None = None
    differing: float | None = None
    note: str = ""
