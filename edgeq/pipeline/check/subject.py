"""The inputs of a verdict: the subject under judgement, and the observation for each budget."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeq.core.terms import How
from edgeq.devices.profile import Device
from edgeq.estimate.devices import Estimates
from edgeq.measure.cross_cpu.records import Differences
from edgeq.measure.disturbance import Disturbance
from edgeq.measure.records import Measurement
from edgeq.places.limits.records import Tried
from edgeq.places.place import Here, Place

Alternatives = Mapping[str, int]
"""Estimated download, in bytes, of every variant that could be built, by name."""


@dataclass(frozen=True)
class Subject:
    """The subject of a verdict: an artifact's measurement, full precision's, and where they were
    made.

    here: the facts of that place. expected: estimates for the device under judgement, for figures
    that cannot be measured. differences: its answers on other CPUs. tried: results under memory
    limits. references: every time full precision was measured in the same check. recipe: the file,
    as it was named.
    """

    variant: str
    measured: Measurement
    baseline: Measurement
    here: Device
    alternatives: Alternatives
    place: Place = field(default_factory=Here)
    expected: Estimates | None = None
    differences: Differences | None = None
    tried: Tried | None = None
    references: tuple[Measurement, ...] = ()
    recipe: str = "RECIPE"

    def command(self, device: Device) -> str:
        """The command that checks this artifact for `device` again."""
        words = ["edgeq", "check", self.recipe, "--artifact", self.measured.artifact]
        words += ["--device", device.id]
        if self.place.name != "here":
            words += ["--on", self.place.reach]
        return shlex.join(words)


@dataclass(frozen=True)
class Observation:
    """The observation for one budget.

    `failure` says why a pass died, `remedy` how to run what was not run. samples: how many `noun` a
    quality figure rests on, not counting repeats; None for other budgets. disturbed: why a time may
    be distorted.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    float_value: float | None = None
    how: How = "measured"
    reason: str = ""
    failure: str = ""
    remedy: str = ""
    samples: int | None = None
    noun: str = "samples"
    disturbed: Disturbance = field(default_factory=Disturbance)
