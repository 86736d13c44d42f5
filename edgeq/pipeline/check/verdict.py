"""Verdict: a measurement compared with budgets, line by line. Its JSON is a stable schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.budgets import Bound, Unit
from edgeq.core.errors import EXIT_BUDGET_FAILED, EXIT_INCONCLUSIVE, EXIT_MISSING, EXIT_PASS
from edgeq.core.terms import How
from edgeq.devices.profile import AppLimit
from edgeq.measure.cross_cpu.records import Differences
from edgeq.measure.records import Measurement
from edgeq.places.limits.records import Tried

__all__ = ["How", "Line", "Status", "Verdict", "exit_status", "worst"]

Status = Literal["pass", "fail", "inconclusive", "not run"]

# Worst first. Not run weighs less than inconclusive: it was never tried.
_EXIT_STATUS: dict[Status, int] = {
    "fail": EXIT_BUDGET_FAILED,
    "inconclusive": EXIT_INCONCLUSIVE,
    "not run": EXIT_MISSING,
    "pass": EXIT_PASS,
}


class Line(Frozen):
    """One budget, or the device's own limit, and its observation. Nothing is rounded."""

    budget: str = Field(
        description="The recipe's key, e.g. 'memory.peak', or 'device.memory' for the memory that "
        "the device lets one app use, or 'device.answers' for its CPU's answers compared with "
        "this machine's.",
        examples=["latency.p90"],
    )
    unit: Unit = Field(description="The unit of limit, value, interval and margin.")
    bound: Bound = Field(description="Which side of the limit is good.")
    limit: float = Field(description="The budget.")
    value: float | None = Field(description="The observed value; null without one.")
    low: float | None = Field(
        default=None,
        description="Lower end of the 95 % confidence interval, if there is one; for an estimate, "
        "of the 90 % range.",
    )
    high: float | None = Field(
        default=None,
        description="Upper end of the interval; if null although 'low' is given, the interval is "
        "not bounded.",
    )
    float_value: float | None = Field(
        default=None,
        description="The full-precision value, measured in the same check; null if unknown.",
    )
    samples: int | None = Field(
        default=None,
        description="Different evaluation samples behind a quality figure: texts, pairs, arrays, "
        "or windows of text; null for other budgets.",
    )
    samples_wanted: int | None = Field(
        default=None,
        description="Number of samples that would decide if the value stays as it is; null if it "
        "is decided, and if no number of samples would be enough.",
    )
    margin: float | None = Field(
        description="Distance from the value to the limit: positive if the limit is kept, "
        "negative if it is missed."
    )
    margin_share: float | None = Field(
        description="The margin divided by the size of the limit; null for a limit of 0."
    )
    status: Status = Field(
        description="pass, fail, inconclusive (the limit lies in the interval, the samples are "
        "too few, or the machine was disturbed) or not run."
    )
    how: How = Field(
        description="measured: on this device. emulated: on a stand-in. estimated: computed. not "
        "run: no device or stand-in was available."
    )
    reason: str = Field(description="Remarks on how the value was obtained; may be empty.")
    remedy: str = Field(description="The next step; empty for a pass.")


class Verdict(Frozen):
    """One artifact on one device: every line, and the measurements behind them."""

    edgeq: Literal[1] = Field(default=1, description="The version of this record.")
    kind: Literal["verdict"] = Field(default="verdict", description="What this record is.")
    artifact: str = Field(description="Name of the artifact.")
    artifact_sha256: str = Field(description="SHA-256 of its artifact.json, which seals all files.")
    variant: str = Field(description="Name of the variant in the recipe.")
    device: str = Field(description="Id of the device.")
    device_name: str = Field(description="The device's display name.")
    app_limit: AppLimit = Field(description="The memory that the device lets one app use.")
    status: Status = Field(description="The worst status of all lines.")
    exit_status: int = Field(description="0 pass, 1 fail, 3 not run, 4 inconclusive.")
    lines: tuple[Line, ...] = Field(description="Every budget, and the device's own limit.")
    notes: tuple[str, ...] = Field(
        description="Notes that must be shown: slower than float, not smaller, warnings."
    )
    measurement: Measurement = Field(description="The measurement behind the lines.")
    float_measurement: Measurement = Field(
        description="Full precision, measured in the same check."
    )
    differences: Differences | None = Field(
        default=None,
        description="The artifact's answers on this machine and on every CPU class that stands in "
        "for one here, each compared with this machine's; unavailable classes are not run. Null "
        "for a Core ML package, and for checks on another machine.",
    )
    tried: Tried | None = Field(
        default=None,
        description="The artifact under the memory limits of the checked devices and of the "
        "budget, with `--limit`; null without.",
    )

    @property
    def nearness(self) -> tuple[int, float, int]:
        """Sort key: nearest to a pass, then to full precision, then smallest."""
        measured = self.measurement
        near = float("-inf")
        if measured.language is not None:
            near = -measured.language.divergence.kl.mean
        elif measured.quality is not None:
            near = measured.quality.nearness
        return [*_EXIT_STATUS].index(self.status), near, -measured.download_bytes


def worst(statuses: Iterable[Status]) -> Status:
    """The deciding status: fail, else inconclusive, else not run, else pass."""
    found = set(statuses)
    return next((status for status in _EXIT_STATUS if status in found), "pass")


def exit_status(statuses: Iterable[Status]) -> int:
    """The exit status for `worst(statuses)`: 0 pass, 1 fail, 3 not run, 4 inconclusive."""
    return _EXIT_STATUS[worst(statuses)]
