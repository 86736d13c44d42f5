"""Measurement × Budgets × Device → Verdict. Nothing is measured here, and nothing rounded."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.core.budgets import BUDGETS, Unit
from edgeq.core.sampling import LEAST_SAMPLES
from edgeq.core.units import MIB, format_bytes, format_seconds
from edgeq.devices.profile import Device
from edgeq.formats.registry import file_format
from edgeq.measure.intervals import samples_for
from edgeq.measure.records import Measurement, Memory, Quantile
from edgeq.pipeline.check import remedies
from edgeq.pipeline.check.cross_cpu_lines import answers_line, answers_notes
from edgeq.pipeline.check.observations import Observations
from edgeq.pipeline.check.readings import read
from edgeq.pipeline.check.subject import Observation, Subject
from edgeq.pipeline.check.under_limit import under_limit
from edgeq.pipeline.check.verdict import Line, Status, Verdict, exit_status, worst
from edgeq.recipe.budgets import Budgets

__all__ = ["Subject", "decide", "judge"]


def judge(subject: Subject, device: Device, budgets: Budgets) -> Verdict:
    """Judge every budget of the recipe and the device's own limit, on one device."""
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
        notes=(*_notes(measured, subject.baseline), *_answers_notes(subject, device)),
        measurement=measured,
        float_measurement=subject.baseline,
        differences=subject.differences,
        tried=subject.tried,
    )


def decide(seen_low: float, seen_high: float | None, limit: float, *, at_most: bool) -> Status:
    """Return pass or fail if the whole interval is on one side of `limit`, else inconclusive.

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
        self._sight = Observations(subject, device)

    def lines(self, budgets: Budgets) -> Iterator[Line]:
        limit = self._device.app_limit()
        basis = f"limit for {limit.os}: {limit.basis}"
        memory = self._line("device.memory", "bytes", limit.bytes, self._sight.peak(), basis)
        yield self._under_limit(memory)
        subject = self._subject
        if subject.differences is not None:
            answers = answers_line(subject.differences, self._device, subject.here)
            if answers is not None:
                yield answers
        has_compute_units = file_format(subject.measured.format).has_compute_units
        for budget in BUDGETS.values():
            limit_of_recipe = budgets.limit(budget)
            if limit_of_recipe is None or (budget.needs_compute_units and not has_compute_units):
                continue
            seen = read(budget, self._sight)
            line = self._line(
                budget.name, budget.unit, limit_of_recipe, seen, at_most=budget.is_upper
            )
            yield self._under_limit(line) if line.budget == "memory.peak" else line

    def _under_limit(self, line: Line) -> Line:
        tried = self._subject.tried
        return line if tried is None else under_limit(line, tried)

    def _line(
        self,
        budget: str,
        unit: Unit,
        limit: float,
        seen: Observation,
        more: str = "",
        *,
        at_most: bool = True,
    ) -> Line:
        status = _status(seen, limit, at_most=at_most)
        margin = None
        if seen.value is not None:
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
            samples=seen.samples,
            samples_wanted=_wanted(seen, limit) if status == "inconclusive" else None,
            margin=margin,
            margin_share=margin / abs(limit) if margin is not None and limit else None,
            status=status,
            how=seen.how,
            reason="; ".join(filter(None, [seen.failure, _few(seen), seen.reason, more])),
            remedy="",
        )
        subject = self._subject
        remedy = seen.remedy or remedies.remedy(line, seen, self._device, subject)
        return line.model_copy(update={"remedy": remedy})


def _status(seen: Observation, limit: float, *, at_most: bool) -> Status:
    if seen.failure:
        return "fail"
    if seen.value is None:
        return "not run"
    if seen.samples is not None and seen.samples < LEAST_SAMPLES:
        return "inconclusive"
    low = seen.value if seen.low is None else seen.low
    high = seen.value if seen.low is None else seen.high
    status = decide(low, high, limit, at_most=at_most)
    if seen.how == "estimated" and status != "fail":  # never run, so it has not passed
        return "not run"
    return "inconclusive" if _is_doubtful(seen, limit, status, at_most=at_most) else status


def _is_doubtful(seen: Observation, limit: float, status: Status, *, at_most: bool) -> bool:
    """Whether a quiet machine might have shown the opposite of `status`, a pass or a fail."""
    assert seen.value is not None
    by = seen.disturbed.too_short if status == "pass" else 1 / seen.disturbed.too_long
    possible = seen.value * by if at_most else seen.value / by
    return ((possible <= limit) if at_most else (possible >= limit)) != (status == "pass")


def _few(seen: Observation) -> str:
    if seen.samples is None or seen.samples >= LEAST_SAMPLES:
        return ""
    if seen.samples == 1:
        return f"1 {seen.noun.removesuffix('s')} is too few for an interval"
    return f"{seen.samples} different {seen.noun} are too few for an interval"


def _wanted(seen: Observation, limit: float) -> int | None:
    """How many samples would decide; None if samples are not the reason, or no number would do."""
    if seen.samples is None or seen.value is None:
        return None
    end = seen.low if limit < seen.value else seen.high
    wanted = None if end is None else samples_for(seen.samples, seen.value, end, limit)
    if seen.samples < LEAST_SAMPLES:
        return max(wanted or 0, LEAST_SAMPLES)
    return wanted


def _notes(measured: Measurement, baseline: Measurement) -> Iterator[str]:
    """Notes a reader must not overlook: no gain over float, and loader warnings."""
    if measured.reference and (measured.quality or measured.language):
        yield f"quality reference: {measured.reference}"
        if measured.proof:
            yield measured.proof
    if measured.memory and measured.memory.cache_bytes is not None:
        yield _cache_note(measured.memory, measured.memory.cache_bytes)
    if measured.artifact_sha256 == baseline.artifact_sha256:
        return
    if measured.download_bytes >= baseline.download_bytes:
        own_size, float_size = map(format_bytes, (measured.download_bytes, baseline.download_bytes))
        yield f"not smaller than float: {own_size} compared with {float_size} (measured)"
    if measured.latency and baseline.latency:
        yield from _pace(measured.latency.p50, baseline.latency.p50, "")
    if measured.generation and baseline.generation:
        own, floats = measured.generation, baseline.generation
        yield from _pace(own.first_token_p50, floats.first_token_p50, " to the first token")
        yield from _pace(own.token_p50, floats.token_p50, " a token")
    if measured.memory and baseline.memory:
        growth = measured.memory.anonymous_growth_bytes, baseline.memory.anonymous_growth_bytes
        if growth[0] > growth[1] + MIB:  # a decrease reflects only how the heap was laid out
            sizes = f"{format_bytes(growth[0])} compared with {format_bytes(growth[1])}"
            yield f"more anonymous memory than float: {sizes} (measured here)"
    if measured.memory:
        yield from measured.memory.conditions.warnings


def _answers_notes(subject: Subject, device: Device) -> Iterator[str]:
    if subject.differences is not None:
        yield from answers_notes(subject.differences, device, subject.here)


def _cache_note(memory: Memory, cache_bytes: int) -> str:
    size = format_bytes(cache_bytes)
    return f"of the memory, {size} are the KV cache of {memory.context} positions (allocated)"


def _pace(own: Quantile, floats: Quantile, what: str) -> Iterator[str]:
    times = (
        f"p50{what} {format_seconds(own.seconds)} compared with {format_seconds(floats.seconds)}"
    )
    if floats.high_seconds is not None and own.low_seconds > floats.high_seconds:
        yield f"slower than float: {times} (measured here)"
    elif own.high_seconds is None or own.high_seconds >= floats.low_seconds:
        yield f"not faster than float beyond the noise: {times} (measured here)"
