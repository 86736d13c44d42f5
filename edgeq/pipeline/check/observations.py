"""The observation for each budget, and estimates for a device that was not available."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from edgeq.core.budgets import Unit
from edgeq.devices.compute_units import Unit as ComputeUnit
from edgeq.devices.profile import InstructionSet
from edgeq.estimate.interval import Interval
from edgeq.formats.gguf.instructions import lacking
from edgeq.measure.disturbance import disturbance
from edgeq.measure.records import (
    Conditions,
    Generation,
    Latency,
    Memory,
    Quantile,
    Rate,
    Sustained,
)
from edgeq.measure.sustained import describe
from edgeq.pipeline.check.observations_quality import QualityObservations
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.subject import Observation

NATIVE_BUILD = (
    "compile llama.cpp for this CPU, `pip install llama-cpp-python==0.3.36`, and check again "
    "with EDGEQ_LLAMA=llama_cpp, without `library` in an address"
)
Timed = TypeVar("Timed", Latency, Generation)


class Observations(QualityObservations):
    """Reads a subject's measurements for one device."""

    def peak(self) -> Observation:
        """Peak memory of the process, as the device's system counts it."""
        estimates = self.expected
        expected = estimates.memory.counted(self.device.counts) if estimates else None
        if self.device.counts == "footprint":
            return self._memory(lambda memory: memory.footprint_bytes, expected)
        return self._memory(lambda memory: memory.high_water_bytes, expected)

    def growth(self) -> Observation:
        """Memory added by loading and running the model."""
        if self.device.counts == "footprint":
            return self._memory(lambda m: m.footprint_bytes - m.baseline.anonymous_bytes, None)
        expected = self.expected.memory.growth if self.expected else None
        return self._memory(lambda memory: memory.high_water_growth_bytes, expected)

    def size(self) -> Observation:
        """Download size."""
        return Observation(
            value=self.measured.download_bytes, float_value=self.baseline.download_bytes
        )

    def latency(self, name: str) -> Observation:
        """A quantile of the times of single runs: p50 or p90."""
        seen, baseline = self.measured.latency, self.baseline.latency
        expected = self.expected.latency if self.expected else None
        return self._time(seen, baseline, lambda times: getattr(times, name), expected)

    def first_token(self) -> Observation:
        """The time to the first token that 90 % of texts stay within."""
        seen, baseline = self.measured.generation, self.baseline.generation
        expected = self.expected.first_token if self.expected else None
        return self._time(seen, baseline, lambda times: times.first_token_p90, expected)

    def speed(self, name: str) -> Observation:
        """Tokens per second of `prompt` or `generation`."""
        seen, baseline = self.measured.generation, self.baseline.generation
        expected = None
        if self.expected is not None:
            expected = self.expected.prompt if name == "prompt" else self.expected.decode
        return self._time(
            seen, baseline, lambda times: getattr(times, f"{name}_speed"), expected, "tokens/s"
        )

    def sustained(self) -> Observation:
        """Tokens per second in the slowest part of a run without a pause.

        Full precision does not run as long. No speed is estimated: heat is not.
        """
        seen = self.measured.generation
        if seen is not None and seen.sustained is None and self.is_here:
            return Observation(how="not run", reason="edgeq-runner has no such pass")
        found = self._time(seen, None, lambda times: _sustained(times).slowest, None, "tokens/s")
        if found.value is None or seen is None:
            return found
        return replace(found, reason=f"{describe(_sustained(seen))}; {found.reason}")

    def placement(self, unit: ComputeUnit) -> Observation:
        """The share of operators that Core ML runs on a unit: npu or gpu."""
        absent = self.absent("latency", None)
        if absent is not None:
            return absent
        if not self.is_here:
            return self.on_device(f"Core ML places operators by the chip, here {self.here.chip}")
        seen, baseline = self.measured.placement, self.baseline.placement
        if seen is None:
            return Observation(failure=self.measured.failures.get("latency", ""))
        return Observation(
            value=getattr(seen.share, unit),
            float_value=getattr(baseline.share, unit) if baseline else None,
            reason=f"{seen.operators} operators, compute units {seen.compute_units}",
        )

    def _memory(self, read: Callable[[Memory], int], expected: Interval | None) -> Observation:
        absent = self.absent("memory", expected)
        if absent is not None:
            return absent
        if not self.same_arch:
            return self.on_device(f"it was run on {self.here.arch}", expected)
        how, reason = self.how()
        seen, baseline = self.measured.memory, self.baseline.memory
        if seen is None:
            failure = self.measured.failures.get("memory", "")
            return Observation(how=how, reason=reason, failure=failure)
        return Observation(
            value=read(seen),
            float_value=read(baseline) if baseline else None,
            how=how,
            reason=reason,
        )

    def _time(
        self,
        seen: Timed | None,
        baseline: Timed | None,
        read: Callable[[Timed], Quantile | Rate],
        expected: Interval | None,
        unit: Unit = "seconds",
    ) -> Observation:
        absent = self.absent("latency", expected)
        if absent is not None:
            return absent
        if not self.is_here:
            return self.on_device(f"times on {self.here.chip} do not apply", expected)
        if seen is None:
            return Observation(failure=self.measured.failures.get("latency", ""))
        value, low, high = _interval(read(seen))
        unused = lacking(seen.conditions.instructions, self.device.instruction_sets)
        if unused:
            return self._bound(seen.conditions, unused, format_value(value, unit), unit)
        found = disturbance(seen.conditions, self.references)
        inputs = f"{seen.conditions.inputs}, {seen.conditions.threads} threads"
        return Observation(
            value=value,
            low=low,
            high=high,
            float_value=_interval(read(baseline))[0] if baseline else None,
            reason="; ".join(filter(None, [inputs, found.words])),
            disturbed=found,
        )

    def _bound(
        self, conditions: Conditions, unused: list[InstructionSet], shown: str, unit: Unit
    ) -> Observation:
        """An observation for a time measured on another machine, which is neither a pass nor a
        failure.

        Not even a bound that keeps the budget passes: kernels for other instruction sets are other
        code, which was not run here.
        """
        side = "a lower" if unit == "tokens/s" else "an upper"
        reason = (
            f"{conditions.runtime} is built without {', '.join(unused)}, which this CPU has: "
            f"{shown} is {side} bound, not this device's"
        )
        return Observation(how="not run", reason=reason, remedy=NATIVE_BUILD)


def _sustained(times: Generation) -> Sustained:
    assert times.sustained is not None
    return times.sustained


def _interval(found: Quantile | Rate) -> tuple[float, float, float | None]:
    """A value and the ends of its interval."""
    if isinstance(found, Quantile):
        return found.seconds, found.low_seconds, found.high_seconds
    return found.tokens_per_second, found.low_tokens_per_second, found.high_tokens_per_second
