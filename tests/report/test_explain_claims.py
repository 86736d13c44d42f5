"""Every sentence of an explanation says what the record says, computed here from the record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from edgeq.core.artifact import ImportProof
from edgeq.core.units import format_bytes
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import Line, Verdict
from edgeq.quantize.decide import TOO_SMALL
from edgeq.quantize.methods import ROUNDING_METHODS
from edgeq.report.explain import analogies
from edgeq.report.explain.facts import budget_words
from edgeq.report.explain.glossary import RECOVERY
from edgeq.report.explain.measured import facts_of
from edgeq.report.explain.piece import Written, write
from edgeq.report.page.record import Report, ReportedArtifact
from tests.report.test_explain import REPORTS
from tests.support import report_samples, verdicts

NUMBER = r"[\d.]+(?:e-\d+)?"
FIGURE = rf"{NUMBER}(?: (?:MiB|GiB|KiB|ms|s|tok/s))?"
# What is true of every model: definitions, cited facts, and where a change matters.
GENERAL = (
    "A model is a very long list of numbers, its weights.",
    "Quantization stores each of them less exactly, so that it takes fewer bits.",
    "It matters ",
    "Results marked as emulated come from a stand-in",
)
CITED = [method.summary for method in ROUNDING_METHODS.values()] + [RECOVERY.text]


class Record:
    """The verdict and the artifact that a piece is about, as the report has them."""

    def __init__(self, report: Report, written: Written) -> None:
        self.report, self.facts = report, written.facts
        self.verdict: Verdict = next(
            v
            for v in report.verdicts
            if v.artifact == written.facts.artifact and v.device_name == written.facts.device
        )
        self.artifact: ReportedArtifact = report.artifact(self.verdict.artifact)
        self.lines = {line.budget: line for line in self.verdict.lines}

    def line(self, words: str) -> Line:
        (budget,) = [
            key for key, said in budget_words().items() if said == words and key in self.lines
        ]
        return self.lines[budget]

    def value(self, line: Line, of: str = "value") -> str:
        found = getattr(line, of)
        return "" if found is None else format_value(found, line.unit)


Check = Callable[[Record, re.Match[str]], object]


def _budgets_kept(record: Record, found: re.Match[str]) -> bool:
    every = record.verdict.status == "pass"
    if "every limit" in found.group(1) and not every:
        return False
    for part in found.group(2).split("; "):
        told = re.fullmatch(rf"(.*) is ({FIGURE}) \(limit ({FIGURE})(?:, ({FIGURE}) before)?.*\)",
                            part)  # fmt: skip
        assert told, part
        line = record.line(told.group(1))
        assert line.status == "pass"
        assert told.group(2) == record.value(line)
        assert told.group(3) == record.value(line, "limit")
        assert (told.group(4) or "") == record.value(line, "float_value")
    return True


def _problems(record: Record, found: re.Match[str]) -> bool:
    told = found.group(1).split("; ")
    for part in told:
        match = re.fullmatch(rf"(.*) came to ({FIGURE}), and ({FIGURE}) is the limit", part)
        assert match, part
        line = record.line(match.group(1))
        assert match.group(2) == record.value(line, "float_value")
        assert match.group(3) == record.value(line, "limit")
    return len(told) == len(_missed_by_the_original(record))


def _missed_by_the_original(record: Record) -> list[Line]:
    return [
        line
        for line in record.lines.values()
        if line.float_value is not None
        and (line.float_value > line.limit) == (line.bound == "at most")
        and line.float_value != line.limit
    ]


def _solved(record: Record, found: re.Match[str]) -> bool:
    words = {"pass": "solved", "fail": "not solved", "inconclusive": "not decided",
             "not run": "not proven yet"}  # fmt: skip
    told = found.group(1).split("; ")
    for part in told:
        match = re.fullmatch(r"(.*?), (not solved|solved|not decided|not proven yet)(?: \((.*)\))?",
                             part)  # fmt: skip
        assert match, part
        line = record.line(match.group(1))
        assert match.group(2) == words[line.status]
        assert (match.group(3) or "") == record.value(line)
    return len(told) == len(_missed_by_the_original(record))


def _missed(record: Record, found: re.Match[str]) -> bool:
    for part in found.group(2).split("; "):
        match = re.fullmatch(rf"(.*) is ({FIGURE}) where ({FIGURE}) is the limit.*", part)
        assert match, part
        line = record.line(match.group(1))
        assert line.status == "fail"
        assert (match.group(2), match.group(3)) == (record.value(line), record.value(line, "limit"))
    return True


def _named(status: str) -> Check:
    def check(record: Record, found: re.Match[str]) -> bool:
        told = found.group(1).split(", ")
        return told == [
            budget_words()[line.budget] for line in record.lines.values() if line.status == status
        ]

    return check


def _became(record: Record, found: re.Match[str]) -> bool:
    own, baseline = record.verdict.measurement, record.verdict.float_measurement
    sizes = format_bytes(baseline.download_bytes), format_bytes(own.download_bytes)
    ratio = baseline.download_bytes / own.download_bytes
    return found.groups() == (*sizes, f"{ratio:.1f}")


def _bits(record: Record, found: re.Match[str]) -> bool:
    tensors = [t for t in record.artifact.record.tensors.values() if len(t.shape) > 1]
    counts: dict[str, int] = {}
    for each in tensors:
        size = each.shape[0] * each.shape[1]
        key = f"{8 * each.bytes / size:.2f}".rstrip("0").rstrip(".")
        counts[key] = counts.get(key, 0) + size
    return found.group(1) == max(counts, key=lambda key: counts[key])


def _methods(record: Record, found: re.Match[str]) -> bool:
    used = {t.method for t in record.artifact.record.tensors.values() if len(t.shape) > 1}
    names = {ROUNDING_METHODS[word].title for word in used if word in ROUNDING_METHODS}
    return set(found.group(1).split(", and for the rest ")) == names


def _same_words(record: Record, found: re.Match[str]) -> bool:
    language = record.verdict.measurement.language
    assert language is not None
    seen = language.divergence
    return found.groups() == (str(seen.tokens), f"{seen.same_top1:.1%}")


def _other_words(record: Record, found: re.Match[str]) -> bool:
    language = record.verdict.measurement.language
    assert language is not None
    return found.group(1) == f"{1 - language.divergence.same_top1:.1%}"


def _likeness(record: Record, found: re.Match[str]) -> bool:
    quality = record.verdict.measurement.quality
    assert quality is not None
    return found.group(1) == f"{min(o.cosine_mean for o in quality.outputs.values()):.4f}"


def _moved(record: Record, found: re.Match[str]) -> bool:
    quality = record.verdict.measurement.quality
    assert quality is not None
    assert quality.neighbours is not None
    return found.groups() == (str(quality.neighbours.changed), str(quality.neighbours.texts))


def _memory(record: Record, found: re.Match[str]) -> bool:
    memory = record.verdict.measurement.memory
    assert memory is not None
    whole, *parts = (float(part.split()[0]) for part in found.groups())
    assert sum(parts) == pytest.approx(whole, abs=0.05)
    return whole == pytest.approx(memory.high_water_bytes / (1 << 20), abs=0.06)


def _proven(record: Record, found: re.Match[str]) -> bool:
    proof = record.artifact.record.proof
    assert proof is not None
    said = (proof.reference, f"{proof.difference:.1e}", f"{proof.tolerance:.0e}")
    return found.groups() == said


def _unproven(record: Record, found: re.Match[str]) -> bool:
    proof = record.artifact.record.proof
    assert proof is not None
    return proof.difference is None and found.group(1) == proof.reference


def _remedy(record: Record, found: re.Match[str]) -> bool:
    return found.group(1) in {line.remedy for line in record.lines.values()}


def _always(record: Record, found: re.Match[str]) -> bool:
    return True


def _file(record: Record, found: re.Match[str]) -> bool:
    return _became(record, re.match(r"(.*)\|(.*)\|(.*)", "|".join(  # type: ignore[arg-type]
        [found.group(2), found.group(1), record.facts.smaller or ""])))  # fmt: skip


def _kept(record: Record, found: re.Match[str]) -> bool:
    """Names of weights that have more bits than most, and the record's reason where one is told."""
    shown = re.findall(r"\(([\w, …]+)\)", found.group(2))
    kinds = [kind for part in shown for kind in part.split(", ") if kind != "…"]
    tensors = record.artifact.record.tensors
    own = [t for name, t in tensors.items() if any(kind in name for kind in kinds)]
    assert kinds
    assert own
    if "too small for fewer bits" in found.group(0):
        return all(t.note == TOO_SMALL for t in own)
    if "a rule of the recipe" in found.group(0):
        return any(t.note.startswith("rule ") for t in own)
    return found.group(1) != "What stays as it was"


def _task(record: Record, found: re.Match[str]) -> bool:
    kinds = {"text-generation": "a language model", "sentence-embedding": "a search model"}
    return found.groups() == (record.facts.model, kinds[record.report.task])


CLAIMS: dict[str, Check] = {
    r"(.*) is (a (?:language|search) model): .*": _task,
    r"It is meant to run on (.*)\.": lambda r, m: m.group(1) == r.verdict.device_name,
    r"As it was trained, it did not fit: (.*)\.": _problems,
    r"As it was trained, it is a download of .*": lambda r, m: not _missed_by_the_original(r),
    rf"Here, ({FIGURE}) became ({FIGURE}): ({NUMBER}) times smaller\.": _became,
    rf"Most weights take ({NUMBER}) bits, all overhead counted, instead of 32\.": _bits,
    r"Before anything was quantized, .* run by (.*): .* was (\S+), where (\S+) is .*": _proven,
    r"The model was read by (.*), and that reading was not compared .*": _unproven,
    r"What did not fit: (.*)\.": _solved,
    r"(.* stays within every limit|The limits that .*): (.*)\.": _budgets_kept,
    r"(.*) came nearest, and it is not enough: (.*)\.": _missed,
    r"The report suggests: (.*)\.": _remedy,
    r"Not measured on the device yet: (.*)\.": _named("not run"),
    r"Measured, and still open: (.*)\.": _named("inconclusive"),
    r"(?:Until it is, )?[Tt]hat is not a pass\.": _always,
    r"Fewer bits: .*": _always,
    r"(?:In the name .*|INT\d stores .*|Each part of the model got one of .*)": _always,
    r"GGUF calls it Q(\d)_0\.": lambda r, m: (
        f"int{m.group(1)}-b32" in {t.number_format for t in r.artifact.record.tensors.values()}
    ),
    rf"Result: the file takes ({FIGURE}) instead of ({FIGURE})\.": _file,
    r"How weights are rounded: (.*)\.": _methods,
    rf"Result: at (\d+) places .* in ({NUMBER}%) of them\.": _same_words,
    rf"Result: its answers score ({NUMBER}) for similarity .*": _likeness,
    r"(What stays as it was|More bits for a part): (.*)\.": _kept,
    r"Result: that takes .* of the file\.": _always,
    r"The smaller model is not the same model\.": _always,
    r"Weights read in place: .*": lambda r, m: r.facts.memory is not None,
    rf"Result: of ({FIGURE}) at the most, ({FIGURE}) .*, ({FIGURE}) cannot, and ({FIGURE}) .*": (
        _memory
    ),
    rf"The smaller model is not the same model: .* in ({NUMBER}%) of the places\.": _other_words,
    r"Asked for the nearest sentence, it answers differently for (\d+) of (\d+)\.": _moved,
    # A budget in place of bits, and an adapter: tests of their own read these figures.
    r"(?:Bits for each part|The budget was|Each part was rounded alone|The table|These are) ?.*": (
        lambda r, m: r.facts.budgeted is not None
    ),
    r"Result: in .* of the next words stay the same.*": lambda r, m: r.facts.budgeted is not None,
    r"The finished model came within .*": lambda r, m: r.artifact.fitted is not None,
    r"It takes .* nearer to the original's\.": lambda r, m: r.facts.recovered is not None,
}


def sentences(written: Written) -> Iterator[str]:
    """One after the other, without what is general."""
    for part in written.piece.parts:
        for text in (*part.paragraphs, *part.points):
            for known in (*(each.text for each in analogies.ALL), *CITED):
                text = text.replace(known, "")
            for sentence in re.split(r"(?<=\.) (?=[A-Z])", " ".join(text.split())):
                if sentence and not sentence.startswith(GENERAL):
                    yield sentence


def untrue(report: Report, written: Written) -> list[str]:
    """Sentences that no claim knows, or that the record does not bear out."""
    record = Record(report, written)
    found = []
    for sentence in sentences(written):
        matches = ((re.fullmatch(pattern, sentence), check) for pattern, check in CLAIMS.items())
        known = next(((match, check) for match, check in matches if match), None)
        if known is None or not _is_true(record, *known):
            found.append(sentence)
    return found


def _is_true(record: Record, match: re.Match[str], check: Check) -> bool:
    try:
        return bool(check(record, match))
    except AssertionError:
        return False


@pytest.mark.parametrize("name", REPORTS)
def test_every_sentence_is_what_the_record_says(name: str) -> None:
    report = REPORTS[name]()
    assert untrue(report, write(facts_of(report))) == []


def test_a_figure_of_another_record_is_found() -> None:
    """The check can fail: the piece of one report is not that of another."""
    report = report_samples.report()
    written = write(facts_of(report))
    measured = report_samples.language_model("gguf-int4-b32", 5.5, 0.009)
    other = verdicts.verdict(report_samples.BUDGETS, measured=measured)
    changed = report.model_copy(update={"verdicts": (other,)})
    assert len(untrue(changed, written)) >= 2


@pytest.mark.parametrize("difference", [2.9e-7, None])
def test_it_says_how_the_reading_of_the_model_was_proven(difference: float | None) -> None:
    report = report_samples.report()
    proof = ImportProof(
        reference="transformers 4.57.6, torch 2.13.0+cpu",
        compared="answers to 7 texts",
        difference=difference,
        tolerance=None if difference is None else 1e-5,
    )
    artifacts = tuple(
        each.model_copy(update={"record": each.record.model_copy(update={"proof": proof})})
        for each in report.artifacts
    )
    changed = report.model_copy(update={"artifacts": artifacts})
    written = write(facts_of(changed))
    assert "transformers 4.57.6" in written.piece.text
    assert untrue(changed, written) == []
    assert len(untrue(report, written)) == 1  # nothing bears it out there


def test_what_is_too_small_for_fewer_bits_is_said_to_be_that() -> None:
    report = report_samples.encoder_report()
    (own,) = [a for a in report.artifacts if a.record.name == facts_of(report).artifact]
    tensors = {
        name: record for name, record in own.record.tensors.items() if "embed_tokens" not in name
    }
    (first, *_) = tensors.values()
    tensors["embeddings.token_type_embeddings.weight"] = first.model_copy(
        update={
            "shape": (2, 64), "number_format": "float32", "method": "none", "bytes": 512,
            "note": TOO_SMALL,
        }
    )  # fmt: skip
    record = own.record.model_copy(update={"tensors": tensors})
    changed = report.model_copy(update={"artifacts": (own.model_copy(update={"record": record}),)})
    written = write(facts_of(changed))
    assert "What stays as it was: the table of segments" in written.piece.text
    assert "too small for fewer bits" in written.piece.text
    assert untrue(changed, written) == []
