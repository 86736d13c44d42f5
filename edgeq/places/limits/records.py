"""What is said of a run under a memory limit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Frozen

Mechanism = Literal["cgroup v2", "cgroup v1", "RLIMIT_DATA"]
Outcome = Literal["fits", "too slow", "killed"]


class Trial(Frozen):
    """One limit, and what became of an artifact under it. Memory is of the whole process."""

    limit_bytes: int = Field(description="The limit, of Python, runtime and model together.")
    outcome: Outcome = Field(
        description="fits: survived, fast enough. too slow: survived, or was stopped for taking "
        "too long. killed: ended for want of memory, or by the error that it made."
    )
    group_peak_bytes: int | None = Field(
        description="The most that was charged against the limit, page cache included; null where "
        "the mechanism does not count."
    )
    high_water_bytes: int | None = Field(
        default=None, description="The most that was resident; null where it did not get so far."
    )
    anonymous_peak_bytes: int | None = Field(
        default=None, description="The most that could not be dropped."
    )
    p50_seconds: float | None = Field(
        default=None, description="Median time of a run, of a language model a token."
    )
    unlimited_p50_seconds: float | None = Field(
        default=None, description="The same without a limit, in the same minutes."
    )
    ratio: float | None = Field(default=None, description="The one by the other.")
    attempts: int = Field(default=1, description="How often latency was measured for it.")
    warm_bytes: int = Field(
        default=0, description="Of its files, what the limit did not hold: see `limits.Usage`."
    )
    reason: str = Field(default="", description="What it died of, if it did.")

    @property
    def survived(self) -> bool:
        """Whether every pass came to its end, or would have."""
        return self.outcome != "killed"


class Tried(Frozen):
    """One artifact under some limits."""

    mechanism: Mechanism = Field(description="What held them.")
    trials: tuple[Trial, ...] = Field(
        description="By limit; empty where it does not even run without one."
    )
