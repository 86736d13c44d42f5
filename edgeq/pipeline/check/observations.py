"""What was seen of each budget, and what may be said of a device that was not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from edgeq.core.terms import How, Pass
from edgeq.devices.catalogue import matches
from edgeq.devices.compute_units import Unit as ComputeUnit
from edgeq.devices.profile import Device, InstructionSet
from edgeq.estimate.interval import Interval
from edgeq.formats.gguf.instructions import lacking
from edgeq.measure.divergence import Divergence
from edgeq.measure.records import (
    Conditions,
    Generation,
    Latency,
    Memory,
    OutputQuality,
    Quantile,
    Rate,
)
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.subject import Seen, Subject
from edgeq.pipeline.check.verdict import Unit

NATIVE_BUILD = (
    "compile llama.cpp for this CPU, `pip install llama-cpp-python==0.3.36`, and check again "
    "with EDGEQ_LLAMA=llama_cpp"
)
Timed = TypeVar("Timed", Latency, Generation)
_NORMAL_95 = 1.959963984540054  # half a 95 % interval, in standard errors


class Sight:
    """Reads a subject's measurements for one device."""

    def __init__(self, subject: Subject, device: Device) -> None:
        self._measured, self._beside = subject.measured, subject.beside
        self._here = subject.here
        self._device = device
        self._place, self._expected = subject.place, subject.expected
        is_same = device.id == subject.here.id or matches(device, subject.here)
        self._is_here = is_same and subject.place.how == "measured"
        self._same_arch = device.arch == subject.here.arch

    def peak(self) -> Seen:
        """The most memory of the process, as the device's system counts it."""
        told = self._expected
        expected = told.memory.counted(self._device.counts) if told else None
        if self._device.counts == "footprint":
            return self._memory(lambda memory: memory.footprint_bytes, expected)
        return self._memory(lambda memory: memory.high_water_bytes, expected)

    def growth(self) -> Seen:
        """What loading and running added to it."""
        if self._device.counts == "footprint":
            return self._memory(lambda m: m.footprint_bytes - m.baseline.anonymous_bytes, None)
        expected = self._expected.memory.growth if self._expected else None
        return self._memory(lambda memory: memory.high_water_growth_bytes, expected)

    def size(self) -> Seen:
        """What is downloaded."""
        return Seen(value=self._measured.download_bytes, float_value=self._beside.download_bytes)

    def latency(self, name: str) -> Seen:
        """A quantile of the times of single runs: p50 or p90."""
        seen, beside = self._measured.latency, self._beside.latency
        expected = self._expected.latency if self._expected else None
        return self._time(seen, beside, lambda times: getattr(times, name), expected)

    def first_token(self) -> Seen:
        """The time to the first token that 90 % of texts keep."""
        seen, beside = self._measured.generation, self._beside.generation
        expected = self._expected.first_token if self._expected else None
        return self._time(seen, beside, lambda times: times.first_token_p90, expected)

    def speed(self, name: str) -> Seen:
        """Tokens per second of `prompt` or `generation`."""
        seen, beside = self._measured.generation, self._beside.generation
        expected = None
        if self._expected is not None:
            expected = self._expected.prompt if name == "prompt" else self._expected.decode
        return self._time(
            seen, beside, lambda times: getattr(times, f"{name}_speed"), expected, "tokens/s"
        )

    def _worst_output(
        self,
        read: Callable[[OutputQuality], float | None],
        pick: Callable[[list[float]], float],
    ) -> Seen:
        """The worst of all outputs; a model is as good as its worst."""
        quality = self._measured.quality
        if quality is None:
            return self._no_quality()
        how, reason = self._how(quality.conditions)
        known = [value for value in map(read, quality.outputs.values()) if value is not None]
        if not known:
            reason = "no output has it: only rows of two or more floats, or values that vary"
            return Seen(how="not run", reason=reason, remedy="remove this budget")
        return Seen(value=pick(known), how=how, reason=reason)

    def cosine(self) -> Seen:
        """Mean cosine with the outputs of full precision."""
        return self._worst_output(lambda output: output.cosine_mean, min)

    def error(self) -> Seen:
        """Relative RMS error of the outputs."""
        return self._worst_output(lambda output: output.relative_rms_error, max)

    def spearman(self) -> Seen:
        """Correlation with the scores of the evaluation data."""
        quality = self._measured.quality
        if quality is None:
            return self._no_quality()
        how, reason = self._how(quality.conditions)
        if quality.spearman is None:
            reason = "the evaluation data have no scores that vary"
            remedy = "add a column 'score' to them, or remove this budget"
            return Seen(how="not run", reason=reason, remedy=remedy)
        return Seen(
            value=quality.spearman, float_value=quality.float_spearman, how=how, reason=reason
        )

    def _divergence(self, read: Callable[[Divergence], tuple[float, float]]) -> Seen:
        """A figure of a language model's distance and its standard error, read by `read`."""
        quality = self._measured.language
        if quality is None:
            return self._no_quality()
        how, reason = self._how(quality.conditions)
        value, error = read(quality.divergence)
        half = _NORMAL_95 * error
        return Seen(value=value, low=value - half, high=value + half, how=how, reason=reason)

    def kl(self) -> Seen:
        """The mean KL divergence, with what rounding alone makes of it."""
        seen = self._divergence(lambda found: (found.kl.mean, found.kl.mean_se))
        quality = self._measured.language
        if quality is None:
            return seen
        found = quality.divergence
        floors = (found.noise_floor, found.candidate_noise_floor)
        noise = f"noise floor {floors[0]:.1e} of full precision, {floors[1]:.1e} of its own"
        return replace(seen, reason="; ".join(filter(None, [noise, seen.reason])))

    def kl_p99(self) -> Seen:
        """The KL divergence that 99 % of tokens keep."""
        return self._divergence(lambda found: (found.kl.p99, found.kl_se.p99))

    def perplexity(self) -> Seen:
        """Perplexity divided by that of full precision."""
        return self._divergence(lambda found: (found.perplexity.ratio, found.perplexity_se.ratio))

    def top1(self) -> Seen:
        """The share of largest outputs, or likeliest tokens, that stay."""
        if self._measured.quality is not None:
            return self._worst_output(lambda output: output.top1_agreement, min)
        return self._divergence(lambda found: (found.same_top1, found.same_top1_se))

    def placement(self, unit: ComputeUnit) -> Seen:
        """The share of operators that Core ML runs on a unit: npu or gpu."""
        absent = self._absent("latency", None)
        if absent is not None:
            return absent
        if not self._is_here:
            return self._on_device(f"Core ML places operators by the chip, here {self._here.chip}")
        seen, beside = self._measured.placement, self._beside.placement
        if seen is None:
            return Seen(failure=self._measured.failures.get("latency", ""))
        return Seen(
            value=getattr(seen.share, unit),
            float_value=getattr(beside.share, unit) if beside else None,
            reason=f"{seen.operators} operators, compute units {seen.compute_units}",
        )

    def _absent(self, work: Pass, expected: Interval | None) -> Seen | None:
        """What may be said of a pass that had nothing to run on; None where it had."""
        reason = self._measured.absent.get(work)
        return None if reason is None else self._on_device(reason, expected)

    def _how(self, conditions: Conditions | None = None) -> tuple[How, str]:
        if conditions is not None and conditions.reference:
            reason = f"by {conditions.runtime}; the device's own may answer a little differently"
            return "emulated", reason
        if self._is_here:
            return "measured", ""
        here = self._here
        if self._place.how == "emulated":
            return "emulated", f"run on {self._place.name}"
        if self._same_arch:
            return "emulated", f"run on {here.chip}, which has the same architecture"
        reason = f"run on {here.arch}; kernels for {self._device.arch} may answer differently"
        return "emulated", reason

    def _on_device(self, reason: str, expected: Interval | None = None) -> Seen:
        """For what only the device itself can show; `expected` is told, and never a pass."""
        remedy = f"run `edgeq check --device here` on {self._device.name}"
        if self._device.os == "ios":  # where no Python runs
            remedy = f"measure it in an app on {self._device.name}"
        if expected is None:
            return Seen(how="not run", reason=reason, remedy=remedy)
        return Seen(
            value=expected.value,
            low=expected.low,
            high=expected.high,
            how="estimated",
            reason=f"{reason}; estimate: {expected.basis}",
            remedy=remedy,
        )

    def _memory(self, read: Callable[[Memory], int], expected: Interval | None) -> Seen:
        absent = self._absent("memory", expected)
        if absent is not None:
            return absent
        if not self._same_arch:
            return self._on_device(f"it was run on {self._here.arch}", expected)
        how, reason = self._how()
        seen, beside = self._measured.memory, self._beside.memory
        if seen is None:
            failure = self._measured.failures.get("memory", "")
            return Seen(how=how, reason=reason, failure=failure)
        return Seen(
            value=read(seen),
            float_value=read(beside) if beside else None,
            how=how,
            reason=reason,
        )

    def _time(
        self,
        seen: Timed | None,
        beside: Timed | None,
        read: Callable[[Timed], Quantile | Rate],
        expected: Interval | None,
        unit: Unit = "seconds",
    ) -> Seen:
        absent = self._absent("latency", expected)
        if absent is not None:
            return absent
        if not self._is_here:
            return self._on_device(f"time on {self._here.chip} is another", expected)
        if seen is None:
            return Seen(failure=self._measured.failures.get("latency", ""))
        value, low, high = _interval(read(seen))
        unused = lacking(seen.conditions.instructions, self._device.instruction_sets)
        if unused:
            return self._bound(seen.conditions, unused, format_value(value, unit), unit)
        return Seen(
            value=value,
            low=low,
            high=high,
            float_value=_interval(read(beside))[0] if beside else None,
            reason=f"{seen.conditions.inputs}, {seen.conditions.threads} threads",
        )

    def _bound(
        self, conditions: Conditions, unused: list[InstructionSet], shown: str, unit: Unit
    ) -> Seen:
        """For a time that is not the device's: neither a pass nor a failure can be read from it.

        Not even a bound that keeps the budget is a pass: kernels for other instruction sets are
        other code, and nobody has run them here.
        """
        side = "a lower" if unit == "tokens/s" else "an upper"
        reason = (
            f"{conditions.runtime} is built without {', '.join(unused)}, which this CPU has: "
            f"{shown} is {side} bound, not this device's"
        )
        return Seen(how="not run", reason=reason, remedy=NATIVE_BUILD)

    def _no_quality(self) -> Seen:
        absent = self._absent("quality", None)
        if absent is not None:
            return absent
        failure = self._measured.failures.get("quality", "")
        unknown = self._beside.failures.get("quality")
        if failure:
            how, reason = self._how()
            return Seen(how=how, reason=reason, failure=failure)
        if unknown:
            reason = f"full precision gave nothing to compare with: {unknown}"
            return Seen(how="not run", reason=reason, remedy="build full precision again")
        remedy = "add data: {evaluation: {path: …}} to the recipe"
        return Seen(how="not run", reason="no evaluation data", remedy=remedy)


def _interval(found: Quantile | Rate) -> tuple[float, float, float | None]:
    """A value and the ends of its interval."""
    if isinstance(found, Quantile):
        return found.seconds, found.low_seconds, found.high_seconds
    return found.tokens_per_second, found.low_tokens_per_second, found.high_tokens_per_second
