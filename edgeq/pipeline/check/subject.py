"""What a verdict is made of: the subject that is judged, and what was seen of one budget."""

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
    """What is judged: an artifact's measurement, full precision's, and where they were made.

    here: the facts of that place. expected: what to expect on the device that is judged for, for
    what cannot be measured. differences: its answers on other CPUs.
    tried: what memory limits made of it. references: every time full precision was measured in the
    same check. recipe: the file, as it was named.
    """

    variant: str
    measured: Measurement
    beside: Measurement
    here: Device
    alternatives: Alternatives
    place: Place = field(default_factory=Here)
    expected: Estimates | None = None
    differences: Differences | None = None
    tried: Tried | None = None
    references: tuple[Measurement, ...] = ()
    recipe: str = "RECIPE"

    def command(self, device: Device) -> str:
        """What checks this artifact for `device` again."""
        words = ["edgeq", "check", self.recipe, "--artifact", self.measured.artifact]
        words += ["--device", device.id]
        if self.place.name != "here":
            words += ["--on", self.place.name]
        return shlex.join(words)


@dataclass(frozen=True)
class Seen:
    """What was seen of one budget.

    `failure` says what a pass died of, `remedy` what would let run what was not. samples: how many
    `noun` a quality figure rests on, repeats left out; None for other budgets. disturbed:
    what may have changed a time.
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
