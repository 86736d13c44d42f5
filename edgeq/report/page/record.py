"""The data of a report: the schema of `edgeq report --json`, which the page also includes."""

from __future__ import annotations

import base64
import binascii
import lzma
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edgeq.core.artifact import Artifact, Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.devices.profile import AppLimit
from edgeq.estimate.devices import Estimates
from edgeq.measure.cross_cpu.records import Differences
from edgeq.measure.records import Measurement
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.frontier.records import Frontier

_OPENING = '<script type="application/vnd.edgeq.report" id="report">'
_CARRIED = re.compile(re.escape(_OPENING) + r"([A-Za-z0-9+/=\s]+)</script>")
_MOST_SAMPLES = 120_000  # about 1 MB in the page


class ReportedDevice(Frozen):
    """A device that verdicts exist for.

    chip, ram and counts are unknown if its profile is not available.
    """

    id: str
    name: str
    chip: str | None = None
    ram: int | None = Field(default=None, description="Bytes.")
    counts: Literal["high-water", "footprint"] | None = Field(
        default=None, description="What its system counts against the limit."
    )
    limits: tuple[AppLimit, ...] = Field(
        description="Memory that one app may use: first without an entitlement, then with one."
    )


class ContextMemory(Frozen):
    """Estimated memory at one context length, by part, in bytes."""

    context: int
    parts: dict[str, float]


class TensorLoss(Frozen):
    """The cost of rounding this tensor alone: mean KL in nats, or mean 1 − cosine."""

    least: str = Field(description="The allowed number format with the fewest bits.")
    loss: float = Field(description="Loss in that format.")
    error: float | None = Field(
        description="Standard error of the loss; None if the loss was interpolated."
    )
    here: float | None = Field(
        description="Loss in the format that it has in this artifact, as rounded for the "
        "measurement; None if that format was not measured."
    )
    here_error: float | None = Field(
        default=None, description="Standard error of `here`; None if it has none."
    )
    measure: Literal["kl", "cosine"]

    @property
    def is_measured(self) -> bool:
        """Whether `loss` was measured, not interpolated between measured formats."""
        return self.error is not None

    @property
    def is_here_measured(self) -> bool:
        """Whether `here` was measured."""
        return self.here_error is not None


class BudgetResult(Frozen):
    """The outcome of a budget: the predicted loss, and the measured loss of the whole file.

    On held-out samples of the calibration data: mean KL in nats, or mean 1 − cosine.
    """

    asked: dict[str, str] = Field(description="The bounds, as written in the recipe.")
    measure: Literal["kl", "cosine"]
    predicted: float
    measured: float
    error: float = Field(description="Standard error of the measured loss.")
    samples: int
    trials: int = Field(description="Number of whole models built and measured for it.")


class ReportedArtifact(Frozen):
    """A built artifact, and estimates for devices where it cannot be measured."""

    record: Artifact
    sha256: str = Field(description="SHA-256 of its artifact.json.")
    estimates: dict[str, Estimates] = Field(description="By device id.")
    contexts: tuple[ContextMemory, ...] = Field(
        default=(), description="For language models: estimated memory by context length."
    )
    losses: dict[str, TensorLoss] = Field(
        default_factory=dict,
        description="Results of `edgeq sensitivity` by tensor; empty if it was not run.",
    )
    fitted: BudgetResult | None = Field(
        default=None, description="Outcome of a budget in `quantize.fit`."
    )


class Report(Frozen):
    """Everything known about a recipe's artifacts on its devices."""

    edgeq: Literal[1] = 1
    kind: Literal["report"] = "report"
    version: str = Field(description="Of edgeq.")
    name: str = Field(description="Of the recipe.")
    command: str = Field(description="The command that makes this report again.")
    recipe: str = Field(description="The text of the recipe.")
    recipe_path: str = Field(
        default="RECIPE", description="Path of the recipe, for commands shown in the page."
    )
    task: str
    devices: tuple[ReportedDevice, ...]
    artifacts: tuple[ReportedArtifact, ...]
    verdicts: tuple[Verdict, ...]
    frontier: Frontier | None = Field(
        default=None, description="Results of `edgeq frontier`; None if it was not run."
    )
    kept: int = Field(default=1, description="Every n-th time sample is included.")
    refused: dict[str, Problem] = Field(
        default_factory=dict, description="Why artifacts of the recipe cannot be built, by name."
    )
    images: dict[str, str] = Field(
        default_factory=dict,
        description="Small copies of images with other boxes, as data: addresses, by name.",
    )

    def artifact(self, name: str) -> ReportedArtifact:
        """Return the artifact of this name; raises KeyError."""
        return {each.record.name: each for each in self.artifacts}[name]

    def measurements(self) -> list[tuple[Measurement, Measurement]]:
        """Return each measured artifact and the full-precision baseline, once each.

        Verdicts of several devices may hold the same measurement. If they differ, the one measured
        on the device itself comes first.
        """
        best: dict[str, Verdict] = {}
        for verdict in self.verdicts:
            before = best.get(verdict.artifact)
            if before is None or _seen(verdict) > _seen(before):
                best[verdict.artifact] = verdict
        return [(each.measurement, each.float_measurement) for each in best.values()]

    def differences(self) -> list[Differences]:
        """Return the CPU differences of each artifact, once each."""
        found = [verdict.differences for verdict in self.verdicts]
        return list({each.artifact: each for each in found if each is not None}.values())


def _seen(verdict: Verdict) -> int:
    return sum(line.how == "measured" for line in verdict.lines)


def thinned(verdicts: tuple[Verdict, ...]) -> tuple[tuple[Verdict, ...], int]:
    """Return `verdicts` with few enough time samples for a page, and the step taken."""
    total = sum(_count(m) for v in verdicts for m in (v.measurement, v.float_measurement))
    step = max(1, -(-total // _MOST_SAMPLES))
    if step == 1:
        return verdicts, 1
    fewer = (
        verdict.model_copy(
            update={
                "measurement": _thin(verdict.measurement, step),
                "float_measurement": _thin(verdict.float_measurement, step),
            }
        )
        for verdict in verdicts
    )
    return tuple(fewer), step


def _count(measured: Measurement) -> int:
    times = len(measured.latency.samples_seconds) if measured.latency else 0
    return times + (len(measured.generation.token_seconds) if measured.generation else 0)


def _thin(measured: Measurement, step: int) -> Measurement:
    changes: dict[str, object] = {}
    if measured.latency:
        fewer = {"samples_seconds": measured.latency.samples_seconds[::step]}
        changes["latency"] = measured.latency.model_copy(update=fewer)
    if measured.generation:
        fewer = {"token_seconds": measured.generation.token_seconds[::step]}
        changes["generation"] = measured.generation.model_copy(update=fewer)
    return measured.model_copy(update=changes)


def carried(report: Report) -> str:
    """Return the page element that contains the whole `report`."""
    # Verdicts of several devices repeat the same measurements, far apart; LZMA deduplicates them.
    packed = lzma.compress(report.model_dump_json().encode(), preset=6)
    return f"{_OPENING}{base64.b64encode(packed).decode()}</script>"


def read_report(path: Path) -> Report:
    """Read the report contained in the page at `path`. Raises InvalidInput for any other file."""
    remedy = "write it again with: edgeq report"
    try:
        found = _CARRIED.search(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(
            Problem(str(path), f"cannot be read: {error.strerror}", remedy)
        ) from None
    except UnicodeDecodeError:
        found = None
    if found is None:
        raise InvalidInput(Problem(str(path), "is not a report written by edgeq", remedy))
    try:
        return Report.model_validate_json(lzma.decompress(base64.b64decode(found[1])))
    except (binascii.Error, lzma.LZMAError, ValidationError, EOFError):
        what = "is a report of another version, or was modified"
        raise InvalidInput(Problem(str(path), what, remedy)) from None
