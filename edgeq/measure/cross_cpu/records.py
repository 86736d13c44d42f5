"""What is said of one artifact on several places. Its JSON is a stable schema."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.errors import EXIT_BUDGET_FAILED, EXIT_MISSING, EXIT_PASS
from edgeq.core.terms import How
from edgeq.measure.cross_cpu.statistics import Statistics

Status = Literal["same", "cured", "differs", "not run"]


class OperatorDifference(Frozen):
    """One operator whose answer on recorded inputs is beyond noise."""

    name: str = Field(description="The node in the graph as onnxruntime runs it.")
    kind: str = Field(description="Its type.", examples=["MatMulNBits"])
    why: str = Field(description="In which way it differs.")
    statistics: Statistics


class PlaceDifferences(Frozen):
    """One artifact on one place."""

    place: str = Field(description="Name of the place.", examples=["arm64: dotprod"])
    how: How = Field(description="measured, emulated or not run.")
    status: Status = Field(
        description="same: no operator differs. cured: some do without a setting, which the loader "
        "sets there. differs: the answers that an app would get differ. not run: see the reason."
    )
    reason: str = Field(description="Why it differs or was not run; may be empty.")
    operator: str | None = Field(
        default=None, description="Type of the operator that is furthest off, without settings."
    )
    operators: tuple[OperatorDifference, ...] = Field(
        default=(), description="Those furthest off without settings, the furthest first."
    )
    differing: int = Field(default=0, description="How many operators differ without settings.")
    compared: int = Field(default=0, description="How many were compared; 0: the whole alone.")
    cure: dict[str, str] = Field(
        default={}, description="Session entries with which no operator differs any more."
    )
    settled: bool = Field(
        default=True,
        description="Whether another comparison would find the same: false where a pass took too "
        "long there, or died.",
    )
    whole: Statistics | None = Field(
        default=None,
        description="The artifact's outputs as an app gets them, beside this machine's.",
    )


class Differences(Frozen):
    """One artifact on every place, beside this machine."""

    edgeq: Literal[1] = 1
    kind: Literal["differences"] = "differences"
    artifact: str
    artifact_sha256: str = Field(description="SHA-256 of its artifact.json.")
    reference: str = Field(description="What the places are compared with.")
    places: tuple[PlaceDifferences, ...]

    @property
    def exit_status(self) -> int:
        """1 if answers differ, 3 if nothing could be run, else 0."""
        found = {place.status for place in self.places}
        if "differs" in found:
            return EXIT_BUDGET_FAILED
        return EXIT_MISSING if found == {"not run"} else EXIT_PASS
