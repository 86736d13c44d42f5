"""How measurements made in one place count for the device under judgement."""

from __future__ import annotations

from edgeq.core.terms import Pass
from edgeq.devices.catalogue import matches
from edgeq.devices.profile import Device
from edgeq.estimate.interval import Interval
from edgeq.measure.records import Conditions
from edgeq.pipeline.check.subject import Observation, Subject
from edgeq.pipeline.check.verdict import How


class Standpoint:
    """A subject and the device it is judged for: how its figures count there."""

    def __init__(self, subject: Subject, device: Device) -> None:
        self.measured, self.baseline = subject.measured, subject.baseline
        self.references = subject.references
        self.here = subject.here
        self.device = device
        self.place, self.expected = subject.place, subject.expected
        is_same = device.id == subject.here.id or matches(device, subject.here)
        self.is_here = is_same and subject.place.how == "measured"
        self.same_arch = device.arch == subject.here.arch

    def absent(self, work: Pass, expected: Interval | None) -> Observation | None:
        """The observation for a pass that could not run; None if it ran."""
        reason = self.measured.absent.get(work)
        return None if reason is None else self.on_device(reason, expected)

    def how(self, conditions: Conditions | None = None) -> tuple[How, str]:
        """How a figure is known on the device, and why it is not measured."""
        if conditions is not None and conditions.reference:
            reason = (
                f"by {conditions.runtime}; the device's own runtime may answer slightly differently"
            )
            return "emulated", reason
        if self.is_here:
            return "measured", ""
        here = self.here
        if self.place.how == "emulated":
            return "emulated", f"run on {self.place.name}"
        if self.same_arch:
            return "emulated", f"run on {here.chip}, which has the same architecture"
        reason = f"run on {here.arch}; kernels for {self.device.arch} may answer differently"
        return "emulated", reason

    def on_device(self, reason: str, expected: Interval | None = None) -> Observation:
        """The observation for figures that only the device can show; `expected` is stated, never a
        pass.
        """
        remedy = f"run `edgeq check --device here` on {self.device.name}"
        if self.device.os == "ios":  # no Python runs there
            remedy = f"measure it in an app on {self.device.name}"
        if expected is None:
            return Observation(how="not run", reason=reason, remedy=remedy)
        return Observation(
            value=expected.value,
            low=expected.low,
            high=expected.high,
            how="estimated",
            reason=f"{reason}; estimate: {expected.basis}",
            remedy=remedy,
        )
