"""Answers "what can I run?": every preset of a model on a device, and one recommendation with its
reason.

All numbers are estimated: from configurations, published measurements and a device's facts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.core.units import format_bytes
from edgeq.core.yamlfile import yaml_word
from edgeq.devices.catalogue import HERE
from edgeq.devices.profile import Device, Entitlement
from edgeq.estimate.bandwidth import memory_bandwidth
from edgeq.estimate.contents import Contents
from edgeq.estimate.devices import Estimates, best_backend, estimate_for
from edgeq.estimate.interval import Interval
from edgeq.estimate.quality import Loss, expected_loss
from edgeq.estimate.use_cases import TOLERANCE, USES, Purpose
from edgeq.estimate.variants import variants
from edgeq.formats.registry import file_format
from edgeq.pipeline.first_draft import possible_plans
from edgeq.pipeline.plan.contents import contents_of_plan
from edgeq.pipeline.recommend.described_model import Subject
from edgeq.quantize.presets import PRESETS

Fits = Literal["yes", "likely", "with entitlement", "no"]
"""yes: all of the interval is under the limit. likely: the estimate is. with entitlement: under
the limit of an app that was granted more memory."""

CALIBRATION = "calibration.txt"
"""The name of a file of calibration texts in the next step."""

_DEFAULT_CONTEXT = 4096
# fraction of a device's memory that one program can use next to its system; rule of thumb
_OF_RAM = 0.85
_ENTITLEMENT: Entitlement = "increased-memory-limit"


class Candidate(Frozen):
    """The model in one format and preset.

    memory: the figure that decides whether it fits: what the system counts against the app's limit,
    or all pages if they are nearer to the device's RAM.
    """

    name: str
    format: str
    preset: str
    download_bytes: int
    memory: Interval
    estimates: Estimates
    loss: Loss | None
    fits: Fits


class Limits(Frozen):
    """Bytes that one app may use. entitled: with an entitlement, None if there is none."""

    app: int
    entitled: int | None
    ram: int
    basis: str


class Answer(Frozen):
    """The result of `edgeq recommend`. chosen: the recommended candidate; None if none fits.

    purpose: None for models whose loss is known only once it is measured.
    """

    model: str
    parameters: int
    device: str
    device_name: str
    purpose: Purpose | None
    context: int | None
    limits: Limits
    candidates: tuple[Candidate, ...]
    chosen: str | None
    reason: str
    next_step: tuple[str, ...]


def recommend_model(
    subject: Subject, device: Device, *, context: int | None, purpose: Purpose | None
) -> Answer:
    """Every preset of `subject` that edgeq builds, on `device`.

    context: positions of a language model's cache; by default its recipe's, else 4,096 or its
    trained length. purpose: by default `chat` for language models and `search` for encoders. Raises
    InvalidInput for a context or a purpose that the model cannot have, and for a device with none
    of its formats.
    """
    use = _purpose(subject, purpose)
    positions = _context(subject, context)
    limits = limits_of(device)
    task = task_of(subject.task)
    able = [name for name in device.runtimes if file_format(name).serves(task)]
    offered = _offered(subject, device, able)
    if not offered or any(each.format not in device.runtimes for each in offered):
        what = f"none of the formats of {subject.name} runs on it"
        remedy = f"it runs: {', '.join(device.runtimes)}"
        raise InvalidInput(Problem(device.id, what, remedy))
    bandwidth = None
    if device.memory_bandwidth is None and device.id == HERE and subject.writes:
        bandwidth = memory_bandwidth()
    candidates = tuple(
        _candidate(contents, device, limits, positions or 0, bandwidth) for contents in offered
    )
    if use is None:  # published losses are of texts
        candidates = tuple(one.model_copy(update={"loss": None}) for one in candidates)
    chosen, reason = recommend(candidates, use, limits)
    return Answer(
        model=subject.name,
        parameters=_parameters(subject, offered),
        device=device.id,
        device_name=device.name,
        purpose=use,
        context=positions,
        limits=limits,
        candidates=candidates,
        chosen=chosen.name if chosen else None,
        reason=reason,
        next_step=_next_step(subject, device, chosen, positions),
    )


def _offered(subject: Subject, device: Device, formats: Sequence[str]) -> list[Contents]:
    if subject.file is not None:
        return [subject.file]
    if subject.sizes is not None:
        rest = (formats, subject.tokenizer_bytes, subject.task)
        return list(variants(subject.sizes, subject.config, *rest))
    assert subject.located is not None
    task = task_of(subject.task)
    first = task.first_recipe
    presets = {
        *((*first.quantize, *first.otherwise) if first else ()),
        *(preset for name in formats for preset in file_format(name).encoder_presets),
    }
    plans = possible_plans(subject.source, subject.located, task, device.id, sorted(presets))
    offered = [
        contents_of_plan(artifact, task.name, planned.model)
        for planned in plans
        for artifact in planned.plan.artifacts
    ]
    return [*{each.label: each for each in offered}.values()]


def _parameters(subject: Subject, offered: Sequence[Contents]) -> int:
    if subject.sizes is not None:
        return subject.sizes.parameters
    first, *_ = offered
    return sum(math.prod(weight.shape) for weight in first.weights.values())


def limits_of(device: Device) -> Limits:
    """Memory that one app may use on a device, and with the entitlement of some systems."""
    own = device.app_limit()
    try:
        entitled = device.app_limit(_ENTITLEMENT).bytes
    except InvalidInput:
        entitled = None
    return Limits(app=own.bytes, entitled=entitled, ram=device.ram, basis=own.basis)


def recommend(
    candidates: Iterable[Candidate], purpose: Purpose | None, limits: Limits
) -> tuple[Candidate | None, str]:
    """The cheapest that fits and loses no more than `purpose` tolerates; else the best that fits.

    An encoder's cost is its latency first, a language model's its size, which determines its speed.
    Sure fits are preferred to likely ones, and those to fits that need an entitlement. Without a
    purpose, no loss is known, and the smallest that fits is recommended.
    """
    all_candidates = list(candidates)
    for degree in ("yes", "likely", "with entitlement"):
        fitting = [one for one in all_candidates if one.fits == degree]
        if not fitting:
            continue
        if purpose is None:
            chosen = min(fitting, key=_cost)
            reason = "the smallest that fits; how much it loses is known once it is checked"
            return chosen, reason + _degree_words(degree, chosen)
        kept = [one for one in fitting if one.loss and one.loss.amount.value <= TOLERANCE[purpose]]
        if kept:
            chosen = min(kept, key=_cost)
            best = "fastest" if chosen.estimates.latency else "smallest, so the fastest to write,"
            reason = (
                f"of what fits, the {best} whose expected loss {USES[purpose]} tolerates "
                f"({_loss_words(chosen.loss)}; up to {TOLERANCE[purpose]:g})"
            )
            return chosen, reason + _degree_words(degree, chosen)
        chosen = min(fitting, key=lambda one: one.loss.amount.value if one.loss else math.inf)
        known = f"loses more than {USES[purpose]} usually tolerates ({_loss_words(chosen.loss)})"
        words = known if chosen.loss else "has no published figure for its loss"
        return chosen, f"it fits, but {words}{_degree_words(degree, chosen)}"
    least = min(all_candidates, key=lambda one: one.memory.value)
    reason = (
        f"nothing fits: {least.name} would take {format_bytes(least.memory.value)} (estimated), "
        f"one app may use {format_bytes(limits.app)} of {format_bytes(limits.ram)}"
    )
    return None, reason


def _cost(one: Candidate) -> tuple[float, float]:
    latency = one.estimates.latency
    return (latency.value if latency else 0.0, one.download_bytes)


def _degree_words(degree: str, chosen: Candidate) -> str:
    if degree == "likely":
        return f"; it may take up to {format_bytes(chosen.memory.high)}, over the limit: check it"
    return f"; the app needs the entitlement {_ENTITLEMENT}" if degree != "yes" else ""


def _loss_words(loss: Loss | None) -> str:
    return f"{loss.measure} {loss.amount.value:.2g}" if loss else "not known"


def _purpose(subject: Subject, asked: Purpose | None) -> Purpose | None:
    writes = subject.writes
    if subject.located is not None:
        if asked is not None:
            what = f"{subject.name} is {task_of(subject.task).noun}: no use tells what it may lose"
            raise InvalidInput(Problem("--for", what, "leave it out"))
        return None
    if asked is None:
        return "chat" if writes else "search"
    if (asked == "search") == writes:
        kind = "a language model" if writes else "an encoder, which writes no text"
        remedy = "chat or code" if writes else "search"
        raise InvalidInput(Problem("--for", f"{subject.name} is {kind}", f"give {remedy}"))
    return asked


def _context(subject: Subject, asked: int | None) -> int | None:
    if subject.sizes is None or not subject.sizes.is_decoder:
        if asked is not None:
            what = f"{subject.name} is not a language model, so it has no context to set"
            raise InvalidInput(Problem("--context", what, "omit it"))
        return None
    longest = subject.sizes.longest
    if asked is not None and not 2 <= asked <= longest:
        what = f"{asked} positions; {subject.name} was trained for {longest}"
        raise InvalidInput(Problem("--context", what, f"give 2 to {longest}"))
    return asked or min(subject.context or _DEFAULT_CONTEXT, longest)


def _candidate(
    contents: Contents, device: Device, limits: Limits, context: int, bandwidth: float | None
) -> Candidate:
    backend = best_backend(device, contents.format)
    estimates = estimate_for(
        contents, device, context=context or 2, backend=backend, bandwidth=bandwidth
    )
    # Pages that a GPU works on are resident and counted, whatever file they were mapped from.
    on_gpu = backend == "Metal"
    counts = "high-water" if on_gpu else device.counts
    counted, peak = estimates.memory.counted(counts), estimates.memory.peak
    room = _OF_RAM * limits.ram
    if on_gpu and device.gpu_memory:
        room = min(room, device.gpu_memory)
    assert file_format(contents.format).runs_anywhere
    return Candidate(
        name=f"{contents.format}-{contents.label}",
        format=contents.format,
        preset=contents.label,
        download_bytes=contents.file_bytes,
        memory=peak if peak.value / room > counted.value / limits.app else counted,
        estimates=estimates,
        loss=expected_loss(contents.label, is_decoder=task_of(contents.task).generates),
        fits=_fits(counted, peak, limits, room),
    )


def _fits(counted: Interval, peak: Interval, limits: Limits, room: float) -> Fits:
    """Compare with the memory of one app, and with the device's memory for all pages it touches."""
    if max(counted.high / limits.app, peak.high / room) <= 1:
        return "yes"
    if max(counted.value / limits.app, peak.value / room) <= 1:
        return "likely"
    if limits.entitled and max(counted.value / limits.entitled, peak.value / room) <= 1:
        return "with entitlement"
    return "no"


def _next_step(
    subject: Subject, device: Device, chosen: Candidate | None, context: int | None
) -> tuple[str, ...]:
    """Lines of a recipe, or other advice."""
    if chosen is None:
        shorter = " a shorter --context," if context and context > 512 else ""
        return (f"try a smaller model,{shorter} or a device with more memory",)
    if subject.file is not None:
        return (f"edgeq run {subject.source} --prompt …", f"edgeq audit {subject.source}")
    if subject.located is not None:
        return (f"edgeq new {subject.source} --device {device.id}",)
    lines = [
        "edgeq: 1",
        "name: my-app",
        f"model: {{source: {yaml_word(subject.source)}, task: {subject.task}}}",
        f"quantize: {{default: {chosen.preset}}}",
        f"targets: [{{format: {chosen.format}, devices: [{device.id}]}}]",
    ]
    if PRESETS[chosen.preset].needs_calibration:
        first = task_of(subject.task).first_recipe
        name = first.calibration[0] if first else CALIBRATION
        lines.insert(3, f"data: {{calibration: {{path: {name}}}}}  # data like your app's")
    if context is not None:
        lines.append(f"workload: {{context: {context}}}")
    return tuple(lines)
