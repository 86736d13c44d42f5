"""Extract the facts for an explanation from a report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from edgeq.core.artifact import Artifact, TensorRecord
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.core.units import MIB, format_bytes
from edgeq.measure.records import Measurement, Memory
from edgeq.models.naming import model_name
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import Line
from edgeq.pipeline.recover.record import Recovery
from edgeq.quantize.adapter import METHOD as ADAPTER
from edgeq.quantize.spec import CHOSEN
from edgeq.report.explain.facts import (
    BudgetOutcome,
    ChosenForBudget,
    Facts,
    Proof,
    Recovered,
    Shares,
)
from edgeq.report.explain.weights import exceptions, formats, matrices, methods, number, usual_bits
from edgeq.report.page import words
from edgeq.report.page.memory import MAPPED, RUNTIME, measured_parts
from edgeq.report.page.record import Report, ReportedArtifact


def facts_of(report: Report) -> Facts:
    """Return the facts about the artifact to ship on the first device that has one, or a near miss.

    Raises InvalidInput if nothing in the report was checked.
    """
    if not report.verdicts:
        what = "nothing in it was checked, so there is nothing to explain"
        raise InvalidInput(Problem(report.name, what, "check it first: edgeq check"))
    cards = words.cards(report)
    card, verdict = words.foremost(report)
    task = task_of(report.task)
    artifact = report.artifact(verdict.artifact)
    record, measured, baseline = artifact.record, verdict.measurement, verdict.float_measurement
    tensors = matrices(record.tensors)
    losses = {name: max(0.0, each.loss) for name, each in artifact.losses.items()}
    language, quality = measured.language, measured.quality
    near = quality.neighbours if quality is not None else None
    ratio = baseline.download_bytes / measured.download_bytes
    return Facts(
        name=report.name,
        model=record.model.name or model_name(record.model.source),
        task=report.task,
        device=card.device.name,
        artifact=record.name,
        format=record.format,
        variant=record.variant,
        weights=_weights(record, tensors),
        status=verdict.status,
        size=format_bytes(measured.download_bytes),
        original_size=format_bytes(baseline.download_bytes),
        smaller=f"{ratio:.1f}" if ratio > 1.05 else None,
        budgets=tuple(map(_outcome, verdict.lines)),
        bits=number(usual_bits(tensors)),
        methods=methods(tensors),
        exceptions=exceptions(
            tensors, record.bytes, losses, {name: each.note for name, each in tensors.items()}
        ),
        budgeted=_budgeted(report, artifact, measured),
        recovered=_recovered(record),
        memory=_shares(measured.memory, counts_mapped=card.device.counts != "footprint"),
        same_words=_same_words(measured),
        other_words=f"{1 - language.divergence.same_top1:.1%}" if language else None,
        places=str(language.divergence.tokens) if language else None,
        likeness=_likeness(measured),
        moved=(str(near.changed), str(near.texts)) if near is not None else None,
        parts=tuple(record.parts),
        relabelled=_relabelled(measured) if task.classifies or task.tags else None,
        agreement=_agreement(measured) if task.detects or task.transcribes else None,
        proof=_proof(record),
        others=tuple(c.device.name for c in cards if c is not card),
        refused=tuple(report.refused.values()),
    )


def _weights(record: Artifact, tensors: Mapping[str, TensorRecord]) -> str:
    """The number format of the weights; of several models, of most of them."""
    if not record.parts:
        return str(record.settings.get("weights", record.variant))
    stored = Counter[str]()
    for each in tensors.values():
        stored[each.number_format] += math.prod(each.shape)
    return stored.most_common(1)[0][0] if stored else record.variant


def _outcome(line: Line) -> BudgetOutcome:
    original = line.float_value
    over = original is not None and (
        original > line.limit if line.bound == "at most" else original < line.limit
    )
    is_short = line.margin is not None and line.margin < 0
    return BudgetOutcome(
        budget=line.budget,
        limit=format_value(line.limit, line.unit),
        value=None if line.value is None else format_value(line.value, line.unit),
        original=None if original is None else format_value(original, line.unit),
        is_over=over,
        status=line.status,
        how=line.how,
        missing=format_value(-(line.margin or 0.0), line.unit) if is_short else None,
        remedy=line.remedy,
    )


def _budgeted(
    report: Report, artifact: ReportedArtifact, measured: Measurement
) -> ChosenForBudget | None:
    """Return the budget, its predicted and measured loss, and the artifact nearest in size."""
    tensors = matrices(artifact.record.tensors)
    found = artifact.fitted
    if found is None and not is_chosen(each.note for each in tensors.values()):
        return None
    fitted = {each.record.name for each in report.artifacts if each.fitted is not None}
    fitted.add(artifact.record.name)
    others = [
        each
        for each, _ in report.measurements()
        if each.format == measured.format and each.artifact not in fitted and _quality(each)
    ]
    size = measured.download_bytes
    other = min(others, key=lambda each: abs(each.download_bytes - size), default=None)
    gap = abs(found.predicted / found.measured - 1) if found and found.measured > 0 else None
    return ChosenForBudget(
        formats=formats(tensors),
        asked=asked_words(found.asked) if found else None,
        gap=None if gap is None else f"{max(1, math.ceil(100 * gap))}%",
        other=other.artifact if other else None,
        other_size=format_bytes(other.download_bytes) if other else None,
        other_quality=_quality(other) if other else None,
    )


def _proof(record: Artifact) -> Proof | None:
    """How the imported model was compared with the original; None in records of older versions."""
    proof = record.proof
    if proof is None:
        return None
    compared = proof.difference is not None and proof.tolerance is not None
    return Proof(
        reference=proof.reference,
        difference=f"{proof.difference:.1e}" if compared else None,
        allowed=f"{proof.tolerance:.0e}" if compared else None,
    )


def _recovered(record: Artifact) -> Recovered | None:
    """The quality that an adapter recovered; None without one."""
    sizes = [each.bytes for each in record.tensors.values() if each.method == ADAPTER]
    if not sizes:
        return None
    recovery = Recovery.model_validate(record.settings["recovery"])
    nearer = f"{1 - recovery.kl_after / recovery.kl_before:.0%}"
    return Recovered(format_bytes(sum(sizes)), nearer)


def _relabelled(measured: Measurement) -> tuple[str, str] | None:
    """How many texts get other labels, and of how many; None without labels."""
    score = measured.quality.scores.get("agreement") if measured.quality is not None else None
    if score is None:
        return None
    changed = round((1 - score.value) * score.samples)
    return str(changed), f"{score.samples} {score.noun}"


def _agreement(measured: Measurement) -> tuple[str, str] | None:
    """How far boxes or words agree with the original's, and on how many samples."""
    score = measured.quality.scores.get("agreement") if measured.quality is not None else None
    return None if score is None else (f"{score.value:.1%}", f"{score.samples} {score.noun}")


def is_chosen(notes: Iterable[str]) -> bool:
    """Whether number formats were chosen for a budget, according to the weights' notes."""
    return any(note.partition(";")[0] == CHOSEN for note in notes)


def asked_words(asked: Mapping[str, str]) -> str:
    """Describe a budget, written as in a recipe, in words."""
    return " and ".join(_ASKED[name].format(value) for name, value in asked.items())


_ASKED = {
    "size": "a file of at most {}",
    "memory": "at most {} of memory",
    "latency": "at most {} of waiting",
    "speed": "at least {}",
    "quality.kl": "predictions at most {} away from the original's",
    "quality.cosine": "answers that score at least {} for similarity to the original's",
}


def _same_words(measured: Measurement) -> str | None:
    language = measured.language
    return f"{language.divergence.same_top1:.1%}" if language is not None else None


def _likeness(measured: Measurement) -> str | None:
    quality = measured.quality
    return f"{quality.nearness:.4f}" if quality is not None else None


def _quality(measured: Measurement) -> str | None:
    return _same_words(measured) or _likeness(measured)


def _shares(memory: Memory | None, *, counts_mapped: bool) -> Shares | None:
    """Split the memory into parts, to a tenth of a MiB so that the shown parts add up."""
    if memory is None:
        return None
    parts = measured_parts(memory)
    total = round(10 * sum(parts.values()) / MIB)
    mapped, runtime = (math.floor(10 * parts[kind] / MIB) for kind in (MAPPED, RUNTIME))
    if mapped == 0:  # or the system does not distinguish file pages
        return None
    return Shares(
        mapped=_tenths(mapped),
        working=_tenths(total - mapped - runtime),
        runtime=_tenths(runtime),
        total=_tenths(total),
        counts_mapped=counts_mapped,
    )


def _tenths(size: int) -> str:
    return format_bytes(MIB * size / 10)
