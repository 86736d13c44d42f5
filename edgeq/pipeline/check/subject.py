"""What a verdict is made of: the subject that is judged, and what was seen of one budget."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeq.core.terms import How
from edgeq.devices.profile import Device
from edgeq.estimate.devices import Estimates
from edgeq.measure.cross_cpu.records import Differences
from edgeq.measure.records import Measurement
from edgeq.pipeline.check.remedies import Alternatives
from edgeq.places.limits.records import Tried
from edgeq.places.place import Here, Place


@dataclass(frozen=True)
class Subject:
    """What is judged: an artifact's measurement, full precision's, and where they were made.

    here: the facts of that place. expected: what to expect on the device that is judged for, for
    what cannot be measured. differences: its answers on other CPUs.
    tried: what memory limits made of it.
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


@dataclass(frozen=True)
class Seen:
    """What was seen of one budget.

    `failure` says what a pass died of, `remedy` what would let run what was not.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    float_value: float | None = None
    how: How = "measured"
    reason: str = ""
    failure: str = ""
    remedy: str = ""
