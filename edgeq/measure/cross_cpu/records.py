"""Results for one artifact in several places. Its JSON is a stable schema."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.errors import EXIT_BUDGET_FAILED, EXIT_MISSING, EXIT_PASS
from edgeq.core.terms import How
from edgeq.measure.cross_cpu.statistics import Statistics

VARIABLE = "EDGEQ_COMPARE_CPUS"
"""The environment variable that names the classes to compare on, whatever that takes."""

Status = Literal["same", "cured", "differs", "not run"]


class OperatorDifference(Frozen):
    """One operator whose answer on recorded inputs differs beyond noise."""

    name: str = Field(description="The node's name in the graph that onnxruntime runs.")
    kind: str = Field(description="Its type.", examples=["MatMulNBits"])
    why: str = Field(description="How it differs.")
    statistics: Statistics


class PlaceDifferences(Frozen):
    """One artifact in one place."""

    place: str = Field(description="Name of the place.", examples=["arm64: dotprod"])
    how: How = Field(description="measured, emulated or not run.")
    status: Status = Field(
        description="same: no operator differs. cured: some differ without a setting, which the "
        "loader sets there. differs: an app would get different answers. not run: see the "
        "reason."
    )
    reason: str = Field(description="Why it differs or was not run; may be empty.")
    operator: str | None = Field(
        default=None,
        description="Type of the operator with the largest difference, without settings.",
    )
    operators: tuple[OperatorDifference, ...] = Field(
        default=(),
        description="Operators with the largest differences without settings, largest first.",
    )
    differing: int = Field(
        default=0, description="Number of operators that differ without settings."
    )
    compared: int = Field(
        default=0,
        description="Number of operators compared; 0 if only whole outputs were compared.",
    )
    cure: dict[str, str] = Field(
        default={}, description="Session entries with which no operator differs."
    )
    settled: bool = Field(
        default=True,
        description="Whether another comparison would give the same result: false if a pass timed "
        "out or died.",
    )
    whole: Statistics | None = Field(
        default=None,
        description="The artifact's outputs as an app gets them, compared with this machine's.",
    )


class Differences(Frozen):
    """One artifact in every place, compared with this machine."""

    edgeq: Literal[1] = 1
    kind: Literal["differences"] = "differences"
    artifact: str
    artifact_sha256: str = Field(description="SHA-256 of its artifact.json.")
    reference: str = Field(description="The reference that the places are compared with.")
    places: tuple[PlaceDifferences, ...]

    @property
    def exit_status(self) -> int:
        """1 if answers differ, 3 if nothing could be run, else 0."""
        found = {place.status for place in self.places}
        if "differs" in found:
            return EXIT_BUDGET_FAILED
        return EXIT_MISSING if found == {"not run"} else EXIT_PASS
