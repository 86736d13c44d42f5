"""Report → the facts that the piece tells: one artifact on one device, in figures for a reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.artifact import Artifact, TensorRecord
from edgeq.errors import InvalidInput, Problem
from edgeq.remedies import format_value
from edgeq.report.page import words
from edgeq.report.page.record import Report, ReportedArtifact
from edgeq.report.page.tensors import bits_of, place_of
from edgeq.units import format_bytes
from edgeq.verdict import Line, Status, Verdict

BUDGETS = {
    "device.memory": "what it takes of the memory that the device gives one app",
    "memory.peak": "memory while it runs",
    "memory.growth": "the memory it adds to an app",
    "latency.p50": "the typical time of one run",
    "latency.p90": "the time that nine in ten runs keep to",
    "latency.first_token": "the wait for the first word",
    "speed.prompt": "the speed at which it reads",
    "speed.generation": "the speed at which it writes",
    "size.download": "the download",
    "quality.cosine": "the likeness of its answers to the original's",
    "quality.spearman": "its agreement with people's own scores",
    "quality.error": "the error of its answers",
    "quality.top1": "the share of first choices that stay the same",
    "quality.kl": "the distance of its predictions from the original's",
    "quality.kl_p99": "the distance of its worst predictions from the original's",
    "quality.perplexity": "its difficulty with a text, as a multiple of the original's",
    "placement.npu": "the share of its work on the Neural Engine",
    "placement.gpu": "the share of its work on the graphics processor",
}
"""Every budget in plain words."""


@dataclass(frozen=True)
class Told:
    """One budget in figures for a reader. original: of full precision, None where not measured.

    value: None where nothing was seen. remedy: what to try, empty for a pass.
    """

    budget: str
    limit: str
    value: str | None
    original: str | None
    is_over: bool
    status: Status
    how: str
    missing: str | None
    remedy: str

    @property
    def words(self) -> str:
        """What the budget is about."""
        return BUDGETS[self.budget]


@dataclass(frozen=True)
class Kept:
    """Weights that were left with more bits than most."""

    kinds: str
    bits: str
    bytes: str
    share: str


@dataclass(frozen=True)
class Facts:
    """What the piece tells. Figures are texts as they will stand there."""

    name: str
    model: str
    task: str
    device: str
    artifact: str
    format: str
    variant: str
    weights: str
    status: Status
    size: str
    original_size: str
    smaller: str | None
    budgets: tuple[Told, ...]
    bits: str
    methods: tuple[str, ...]
    exceptions: Kept | None
    mapped: str | None
    held: str | None
    same_words: str | None
    other_words: str | None
    places: str | None
    likeness: str | None
    moved: tuple[str, str] | None
    others: tuple[str, ...]

    def budget(self, *names: str) -> Told | None:
        """The first of these budgets that the recipe has and something was seen of."""
        found = {each.budget: each for each in self.budgets if each.value is not None}
        return next((found[name] for name in names if name in found), None)

    @property
    def failed(self) -> tuple[Told, ...]:
        """The budgets that were missed."""
        return tuple(each for each in self.budgets if each.status == "fail")

    @property
    def open(self) -> tuple[Told, ...]:
        """Those of which nothing can be said yet."""
        return tuple(each for each in self.budgets if each.status in ("not run", "inconclusive"))


def facts_of(report: Report) -> Facts:
    """What to tell of a report: what to ship on the first device that has it, or what came nearest.

    Raises InvalidInput for a report of which nothing was checked.
    """
    if not report.verdicts:
        what = "nothing of it was checked, so there is nothing to explain"
        raise InvalidInput(Problem(report.name, what, "check it first: edgeq check"))
    cards = words.cards(report)
    card = next((card for card in cards if card.best), cards[0])
    own = [verdict for verdict in report.verdicts if verdict.device == card.device.id]
    verdict = min(own, key=lambda v: (v.artifact != card.best, _distance(v)))
    artifact = report.artifact(verdict.artifact)
    record, measured, beside = artifact.record, verdict.measurement, verdict.float_measurement
    bits = _usual_bits(record)
    language, quality = measured.language, measured.quality
    near = quality.neighbours if quality is not None else None
    ratio = beside.download_bytes / measured.download_bytes
    outputs = quality.outputs.values() if quality is not None else ()
    return Facts(
        name=report.name,
        model=record.model.source.rpartition("/")[2].rpartition(":")[2].partition("@")[0],
        task=report.task,
        device=card.device.name,
        artifact=record.name,
        format=record.format,
        variant=record.variant,
        weights=str(record.settings.get("weights", record.variant)),
        status=verdict.status,
        size=format_bytes(measured.download_bytes),
        original_size=format_bytes(beside.download_bytes),
        smaller=f"{ratio:.1f}" if ratio > 1.05 else None,
        budgets=tuple(map(_told, verdict.lines)),
        bits=_number(bits),
        methods=_methods(record),
        exceptions=_exceptions(artifact, bits),
        mapped=_mapped(verdict),
        held=_held(verdict),
        same_words=f"{language.divergence.same_top1:.1%}" if language else None,
        other_words=f"{1 - language.divergence.same_top1:.1%}" if language else None,
        places=str(language.divergence.tokens) if language else None,
        likeness=f"{min(o.cosine_mean for o in outputs):.4f}" if quality else None,
        moved=(str(near.changed), str(near.texts)) if near is not None else None,
        others=tuple(c.device.name for c in cards if c is not card),
    )


def _distance(verdict: Verdict) -> tuple[int, float]:
    """From what came nearest to its budgets: few that failed, then little that is missing."""
    missing = [line for line in verdict.lines if line.status == "fail"]
    return len(missing), sum(-(line.margin_share or -1.0) for line in missing)


def _told(line: Line) -> Told:
    original = line.float_value
    over = original is not None and (
        original > line.limit if line.bound == "at most" else original < line.limit
    )
    is_short = line.margin is not None and line.margin < 0
    return Told(
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


def _matrices(record: Artifact) -> Mapping[str, TensorRecord]:
    return {name: t for name, t in record.tensors.items() if len(t.shape) > 1}


def _usual_bits(record: Artifact) -> float:
    """The bits that most weights have."""
    counts: dict[float, int] = {}
    for tensor in _matrices(record).values():
        bits = bits_of(tensor)
        counts[bits] = counts.get(bits, 0) + math.prod(tensor.shape)
    return max(counts, key=lambda bits: counts[bits]) if counts else 32.0


def _number(bits: float) -> str:
    return f"{bits:.2f}".rstrip("0").rstrip(".")


def _methods(record: Artifact) -> tuple[str, ...]:
    """How weights were rounded, what most of them got first."""
    counts: dict[str, int] = {}
    for tensor in _matrices(record).values():
        if tensor.method != "none":
            counts[tensor.method] = counts.get(tensor.method, 0) + math.prod(tensor.shape)
    return tuple(sorted(counts, key=lambda method: -counts[method]))


def _exceptions(artifact: ReportedArtifact, usual: float) -> Kept | None:
    """Weights with clearly more bits than most, by kind."""
    found = {n: t for n, t in _matrices(artifact.record).items() if bits_of(t) > usual + 0.75}
    if not found:
        return None
    kinds = list(dict.fromkeys(place_of(name)[1] for name in found))
    shown = ", ".join(kinds[:3]) + (" and others" if len(kinds) > 3 else "")
    size = sum(t.bytes for t in found.values())
    bits = 8 * size / sum(math.prod(t.shape) for t in found.values())
    share = size / max(1, artifact.record.bytes)
    return Kept(shown, _number(round(bits, 2)), format_bytes(size), f"{share:.0%}")


def _mapped(verdict: Verdict) -> str | None:
    memory = verdict.measurement.memory
    if memory is None or memory.ran.file_mapped_bytes is None:
        return None
    more = memory.ran.file_mapped_bytes - (memory.baseline.file_mapped_bytes or 0)
    return format_bytes(more) if more > 0 else None


def _held(verdict: Verdict) -> str | None:
    memory = verdict.measurement.memory
    return format_bytes(max(0, memory.anonymous_growth_bytes)) if memory is not None else None
