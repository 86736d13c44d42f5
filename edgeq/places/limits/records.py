"""Records of runs under a memory limit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Frozen

Mechanism = Literal["cgroup v2", "cgroup v1", "RLIMIT_DATA"]
Outcome = Literal["fits", "too slow", "killed"]


class Trial(Frozen):
    """One limit, and how an artifact fared under it. Memory is of the whole process."""

    limit_bytes: int = Field(description="The limit for Python, runtime and model together.")
    outcome: Outcome = Field(
        description="fits: survived, fast enough. too slow: survived, or was stopped for taking "
        "too long. killed: ended for lack of memory, or with an error caused by it."
    )
    group_peak_bytes: int | None = Field(
        description="Peak charge against the limit, page cache included; null if the mechanism "
        "does not count it."
    )
    high_water_bytes: int | None = Field(
        default=None, description="Peak resident memory; null if it ended before."
    )
    anonymous_peak_bytes: int | None = Field(
        default=None, description="Peak of memory that could not be dropped."
    )
    p50_seconds: float | None = Field(
        default=None, description="Median time of a run or, for a language model, of a token."
    )
    unlimited_p50_seconds: float | None = Field(
        default=None, description="The same without a limit, measured within the same minutes."
    )
    ratio: float | None = Field(
        default=None, description="Time under the limit divided by the time without."
    )
    attempts: int = Field(default=1, description="Number of latency measurements for it.")
    warm_bytes: int = Field(
        default=0,
        description="Bytes of its files that the limit did not cover: see `limits.Usage`.",
    )
    reason: str = Field(default="", description="The cause of death, if it died.")

    @property
    def survived(self) -> bool:
        """Whether every pass finished, or would have."""
        return self.outcome != "killed"


class Tried(Frozen):
    """One artifact under some limits."""

    mechanism: Mechanism = Field(description="The mechanism of the limits.")
    trials: tuple[Trial, ...] = Field(
        description="Trials by limit; empty if it does not run even without one."
    )
