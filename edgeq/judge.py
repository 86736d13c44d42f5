"""Measurement × Budgets × Device → Verdict. Nothing is measured here, and nothing rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeq import remedies
from edgeq.device import HERE, matches
from edgeq.measure.records import Measurement, Memory, OutputQuality, Pass, Quantile
from edgeq.profile import Device
from edgeq.recipe import Budgets
from edgeq.remedies import Alternatives
from edgeq.units import MIB, format_bytes, format_seconds
from edgeq.verdict import How, Line, Status, Unit, Verdict, exit_status, worst


@dataclass(frozen=True)
class Subject:
    """What is judged: an artifact's measurement, full precision's, and where they were made."""

    variant: str
    measured: Measurement
    beside: Measurement
    here: Device
    alternatives: Alternatives


@dataclass(frozen=True)
class _Seen:
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


def judge(subject: Subject, device: Device, budgets: Budgets) -> Verdict:
    """Every budget of the recipe and the device's own limit, on one device."""
    lines = tuple(_Judge(subject, device).lines(budgets))
    statuses = [line.status for line in lines]
    measured = subject.measured
    return Verdict(
        artifact=measured.artifact,
        artifact_sha256=measured.artifact_sha256,
        variant=subject.variant,
        device=device.id,
        device_name=device.name,
        app_limit=device.app_limit(),
        status=worst(statuses),
        exit_status=exit_status(statuses),
        lines=lines,
        notes=tuple(_notes(measured, subject.beside)),
        measurement=measured,
        float_measurement=subject.beside,
    )


def decide(seen_low: float, seen_high: float | None, limit: float, *, at_most: bool) -> Status:
    """pass or fail where the whole interval is on one side of `limit`, else inconclusive.

    `seen_high` None is an interval without upper end.
    """
    if at_most:
        if seen_high is not None and seen_high <= limit:
            return "pass"
        return "fail" if seen_low > limit else "inconclusive"
    if seen_low >= limit:
        return "pass"
    return "fail" if seen_high is not None and seen_high < limit else "inconclusive"


class _Judge:
    def __init__(self, subject: Subject, device: Device) -> None:
        self._subject = subject
        self._device = device
        self._is_here = device.id == HERE or matches(device, subject.here)
        self._same_arch = device.arch == subject.here.arch

    def lines(self, budgets: Budgets) -> Iterator[Line]:
        memory, latency, quality = budgets.memory, budgets.latency, budgets.quality
        limit = self._device.app_limit()
        basis = f"limit for {limit.os}: {limit.basis}"
        yield self._line("device.memory", "bytes", limit.bytes, self._peak(), basis)
        if memory.peak is not None:
            yield self._line("memory.peak", "bytes", memory.peak, self._peak())
        if memory.growth is not None:
            yield self._line("memory.growth", "bytes", memory.growth, self._growth())
        if latency.p50 is not None:
            yield self._line("latency.p50", "seconds", latency.p50, self._time("p50"))
        if latency.p90 is not None:
            yield self._line("latency.p90", "seconds", latency.p90, self._time("p90"))
        if budgets.size.download is not None:
            yield self._line("size.download", "bytes", budgets.size.download, self._size())
        if quality.cosine is not None:
            seen = self._worst_output(lambda output: output.cosine_mean, min)
            yield self._line("quality.cosine", "cosine", quality.cosine, seen, at_most=False)
        if quality.spearman is not None:
            seen = self._spearman()
            unit: Unit = "correlation × 100"
            yield self._line("quality.spearman", unit, quality.spearman, seen, at_most=False)
        if quality.error is not None:
            seen = self._worst_output(lambda output: output.relative_rms_error, max)
            yield self._line("quality.error", "relative error", quality.error, seen)
        if quality.top1 is not None:
            seen = self._worst_output(lambda output: output.top1_agreement, min)
            yield self._line("quality.top1", "share", quality.top1, seen, at_most=False)

    def _line(
        self,
        budget: str,
        unit: Unit,
        limit: float,
        seen: _Seen,
        more: str = "",
        *,
        at_most: bool = True,
    ) -> Line:
        status: Status
        margin = None
        if seen.failure:
            status = "fail"
        elif seen.value is None:
            status = "not run"
        else:
            bounded = seen.low is not None
            low = seen.value if seen.low is None else seen.low
            status = decide(low, seen.high if bounded else seen.value, limit, at_most=at_most)
            margin = limit - seen.value if at_most else seen.value - limit
        line = Line(
            budget=budget,
            unit=unit,
            bound="at most" if at_most else "at least",
            limit=limit,
            value=seen.value,
            low=seen.low,
            high=seen.high,
            float_value=seen.float_value,
            margin=margin,
            margin_share=margin / abs(limit) if margin is not None and limit else None,
            status=status,
            how=seen.how,
            reason="; ".join(filter(None, [seen.failure, seen.reason, more])),
            remedy="",
        )
        subject = self._subject
        remedy = seen.remedy or remedies.remedy(
            line, self._device, subject.measured, subject.variant, subject.alternatives
        )
        return line.model_copy(update={"remedy": remedy})

    def _how(self) -> tuple[How, str]:
        if self._is_here:
            return "measured", ""
        here = self._subject.here
        if self._same_arch:
            return "emulated", f"run on {here.chip}, which has the same architecture"
        reason = f"run on {here.arch}; kernels for {self._device.arch} may answer differently"
        return "emulated", reason

    def _on_device(self, reason: str) -> _Seen:
        remedy = f"run `edgeq check --device here` on {self._device.name}"
        return _Seen(how="not run", reason=reason, remedy=remedy)

    def _failed(self, work: Pass) -> str:
        return self._subject.measured.failures.get(work, "")

    def _memory(self, read: Callable[[Memory], int]) -> _Seen:
        if not self._same_arch:
            return self._on_device(f"this machine is {self._subject.here.arch}")
        how, reason = self._how()
        seen, beside = self._subject.measured.memory, self._subject.beside.memory
        if seen is None:
            return _Seen(how=how, reason=reason, failure=self._failed("memory"))
        return _Seen(
            value=read(seen),
            float_value=read(beside) if beside else None,
            how=how,
            reason=reason,
        )

    def _peak(self) -> _Seen:
        if self._device.counts == "footprint":
            return self._memory(lambda memory: memory.footprint_bytes)
        return self._memory(lambda memory: memory.high_water_bytes)

    def _growth(self) -> _Seen:
        if self._device.counts == "footprint":
            return self._memory(lambda m: m.footprint_bytes - m.baseline.anonymous_bytes)
        return self._memory(lambda memory: memory.high_water_growth_bytes)

    def _time(self, name: str) -> _Seen:
        if not self._is_here:
            return self._on_device(f"time on this machine ({self._subject.here.chip}) is another")
        seen, beside = self._subject.measured.latency, self._subject.beside.latency
        if seen is None:
            return _Seen(failure=self._failed("latency"))
        found: Quantile = getattr(seen, name)
        return _Seen(
            value=found.seconds,
            low=found.low_seconds,
            high=found.high_seconds,
            float_value=getattr(beside, name).seconds if beside else None,
            reason=f"{seen.conditions.inputs}, {seen.conditions.threads} threads",
        )

    def _size(self) -> _Seen:
        subject = self._subject
        return _Seen(
            value=subject.measured.download_bytes, float_value=subject.beside.download_bytes
        )

    def _worst_output(
        self,
        read: Callable[[OutputQuality], float | None],
        pick: Callable[[list[float]], float],
    ) -> _Seen:
        """The worst of all outputs; a model is as good as its worst."""
        quality = self._subject.measured.quality
        if quality is None:
            return self._no_quality()
        how, reason = self._how()
        known = [value for value in map(read, quality.outputs.values()) if value is not None]
        if not known:
            reason = "no output has it: only rows of two or more floats, or values that vary"
            return _Seen(how="not run", reason=reason, remedy="remove this budget")
        return _Seen(value=pick(known), how=how, reason=reason)

    def _spearman(self) -> _Seen:
        quality = self._subject.measured.quality
        if quality is None:
            return self._no_quality()
        how, reason = self._how()
        if quality.spearman is None:
            reason = "the evaluation data have no scores that vary"
            remedy = "add a column 'score' to them, or remove this budget"
            return _Seen(how="not run", reason=reason, remedy=remedy)
        return _Seen(
            value=quality.spearman, float_value=quality.float_spearman, how=how, reason=reason
        )

    def _no_quality(self) -> _Seen:
        failure, unknown = self._failed("quality"), self._subject.beside.failures.get("quality")
        if failure:
            how, reason = self._how()
            return _Seen(how=how, reason=reason, failure=failure)
        if unknown:
            reason = f"full precision gave nothing to compare with: {unknown}"
            return _Seen(how="not run", reason=reason, remedy="build full precision again")
        remedy = "add data: {evaluation: {path: …}} to the recipe"
        return _Seen(how="not run", reason="no evaluation data", remedy=remedy)


def _notes(measured: Measurement, beside: Measurement) -> Iterator[str]:
    """What a reader must not overlook: no gain over float, and what the loader warned of."""
    if measured.artifact_sha256 == beside.artifact_sha256:
        return
    if measured.download_bytes >= beside.download_bytes:
        own_size, float_size = map(format_bytes, (measured.download_bytes, beside.download_bytes))
        yield f"not smaller than float: {own_size} against {float_size} (measured)"
    if measured.latency and beside.latency:
        own, floats = measured.latency.p50, beside.latency.p50
        times = f"p50 {format_seconds(own.seconds)} against {format_seconds(floats.seconds)}"
        if floats.high_seconds is not None and own.low_seconds > floats.high_seconds:
            yield f"slower than float: {times} (measured here)"
        elif own.high_seconds is None or own.high_seconds >= floats.low_seconds:
            yield f"not faster than float beyond the noise: {times} (measured here)"
    if measured.memory and beside.memory:
        growth = measured.memory.anonymous_growth_bytes, beside.memory.anonymous_growth_bytes
        if growth[0] > growth[1] + MIB:  # less is how the heap happened to be laid out
            sizes = f"{format_bytes(growth[0])} against {format_bytes(growth[1])}"
            yield f"more anonymous memory than float: {sizes} (measured here)"
    if measured.memory:
        yield from measured.memory.conditions.warnings
