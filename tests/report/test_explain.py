"""The explanation in plain words: what it says of what happened, and the rules it keeps."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.formats.bundle import BUNDLE_FILE
from edgeq.measure.records import MemoryReading
from edgeq.recipe.budgets import Budgets
from edgeq.report.console import make_console
from edgeq.report.explain.facts import Facts, budget_words
from edgeq.report.explain.glossary import variant_words
from edgeq.report.explain.measured import _shares, facts_of
from edgeq.report.explain.piece import Written, write
from edgeq.report.explain.rules import problems
from edgeq.report.explain.sources import facts_of_source
from edgeq.report.page.record import Report
from tests.support import report_samples as samples
from tests.support import verdicts
from tests.support.properties import examples

MIB = 1 << 20


def facts(report: Report, **changes: Any) -> Facts:
    return dataclasses.replace(facts_of(report), **changes)


def failed_memory() -> Report:
    """A language model that needs more memory than its budget, quantized or not."""
    large = verdicts.memory(high_water=300, anonymous_peak=200).model_copy(
        update={"context": 1024, "cache_bytes": 6 * MIB}
    )
    measured = samples.language_model("gguf-int4-b32", 4.5, 0.005, memory=large)
    baseline = verdicts.full_precision(
        artifact="gguf-float32",
        memory=verdicts.memory(high_water=420, anonymous_peak=300),
        latency=None,
        generation=verdicts.spoken(first=0.4),
    )
    found = verdicts.verdict(samples.BUDGETS, measured=measured, baseline=baseline)
    whole = samples.report()
    return whole.model_copy(update={"verdicts": (found,), "devices": whole.devices[:1]})


REPORTS = {
    "encoder passed": samples.encoder_report,
    "language model passed": samples.report,
    "memory failed": failed_memory,
    "allocated": samples.allocated_report,
    "recovered": samples.recovered_report,
}


PASSED = facts_of(samples.report())


@pytest.mark.parametrize("name", REPORTS)
def test_every_piece_keeps_the_rules(name: str) -> None:
    written = write(facts_of(REPORTS[name]()))
    assert problems(written) == []
    text = written.piece.text
    assert written.facts.device in text
    assert written.facts.size in text
    assert [len(part.points) for part in written.piece.parts if part.points] == [3]


def test_a_bundle_of_a_budget_says_so_and_is_compared_with_no_one() -> None:
    """What its weights say is all that is known there."""
    whole = samples.allocated_report()
    made = whole.artifacts[-1].model_copy(update={"fitted": None, "losses": {}})
    alone = whole.model_copy(
        update={"artifacts": (made,), "verdicts": whole.verdicts[-1:], "frontier": None}
    )
    written = write(facts_of(alone))
    assert problems(written) == []
    assert "a budget in place of fixed bits" in written.piece.text
    assert "mixed precision" in written.piece.text
    assert "comes to" not in written.piece.text
    assert "The budget was" not in written.piece.text


def test_recovery_says_what_it_gave_back() -> None:
    text = write(facts_of(samples.recovered_report())).piece.text
    assert "QLoRA" in text
    assert "came 20% nearer" in text
    assert "float16" not in text.casefold()  # the adapter is none of the weights
    assert "QLoRA" not in write(facts_of(samples.report())).piece.text


@pytest.mark.parametrize("variant", ["Q4_K_M", "Q2_K", "Q8_0", "IQ4_XS", "int8", "palette6-g16"])
@pytest.mark.parametrize("methods", [("gptq", "nearest"), ("importance",), ("kmeans",), ()])
def test_every_format_and_method_keeps_the_rules(variant: str, methods: tuple[str, ...]) -> None:
    told = facts(samples.report(), variant=variant, weights=variant, methods=methods)
    written = write(told)
    assert problems(written) == []
    assert variant_words(variant, variant, told.format)[0] in written.piece.text


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_not_known_is_not_told(name: str) -> None:
    """A report with nothing measured but the size still makes a piece, without figures."""
    told = facts(
        REPORTS[name](), exceptions=None, budgeted=None, memory=None, same_words=None,
        other_words=None, places=None, likeness=None, moved=None, smaller=None, methods=(),
    )  # fmt: skip
    written = write(told)
    assert problems(written) == []
    assert "quality was not measured" in written.piece.text
    assert "None" not in written.piece.text


def test_a_failure_reads_differently_from_a_pass() -> None:
    passed, failed = write(facts_of(samples.report())), write(facts_of(failed_memory()))
    assert passed.piece.title.endswith("fits this machine")
    assert failed.piece.title.endswith("does not fit this machine yet")
    assert passed.analogy != failed.analogy
    text = failed.piece.text
    assert (
        "memory while it runs is 300.0 MiB where 256.0 MiB is the limit, 44.0 MiB too far" in text
    )
    assert "memory while it runs came to 420.0 MiB, and 256.0 MiB is the limit" in text
    (told,) = failed.facts.failed
    assert told.remedy in text
    assert "suitcase" in text


def test_what_was_not_run_is_no_pass() -> None:
    report = samples.report()
    phone = tuple(v for v in report.verdicts if v.device == "iphone-14" and v.status != "fail")
    written = write(facts_of(report.model_copy(update={"verdicts": phone})))
    assert written.piece.title == "model on iPhone 14: not proven yet"
    assert "that is not a pass" in written.piece.text
    assert problems(written) == []


def test_more_bits_for_some_are_told_with_what_they_take() -> None:
    written = write(facts_of(samples.report()))
    kept = written.facts.exceptions
    assert kept is not None
    assert (kept.kinds, kept.bits, written.facts.bits) == (
        "the table of words (embed_tokens)",
        "8.5",
        "4.5",
    )
    assert f"{kept.kinds} has {kept.bits} bits instead of 4.5" in written.piece.text


def test_what_an_allocation_bought_is_told() -> None:
    written = write(facts_of(samples.allocated_report()))
    facts, text = written.facts, written.piece.text
    assert facts.artifact == "gguf-fit-4.5mib"  # of all that pass the nearest
    assert "The budget was a file of at most 4.5 MiB." in text
    assert "The table of words (embed_tokens) and attention (v_proj) in layer 0 of 4 got" in text
    # 0.04 and 0.02 of 0.071 are theirs, by the measurement of each tensor alone.
    assert "85% of the harm came from them" in text
    assert "mixed precision" in text
    assert "within 11% of the prediction" in text  # 0.0021 for 0.0019
    own, other = (
        m.language.divergence.same_top1
        for m, _ in samples.allocated_report().measurements()
        if m.language is not None and m.artifact in ("gguf-fit-4.5mib", "gguf-int4-b32")
    )
    assert facts.budgeted is not None
    assert facts.budgeted.other == "gguf-int4-b32"  # the nearest in size
    assert facts.budgeted.other_quality == f"{other:.1%}"
    assert facts.same_words == f"{own:.1%}"
    assert "gguf-int4-b32 comes to" in text


def test_of_what_is_equally_far_the_nearest_to_the_original_is_told() -> None:
    report = samples.allocated_report()
    phone = tuple(v for v in report.verdicts if v.device == "iphone-14" and v.status != "fail")
    own = report.verdicts[-1].model_copy(update={"device": "iphone-14", "status": "not run"})
    both = report.model_copy(update={"verdicts": (*phone, own), "devices": report.devices[1:]})
    assert facts_of(both).artifact == "gguf-fit-4.5mib"


def test_every_budget_has_plain_words() -> None:
    named = {
        f"{group}.{key}"
        for group, field in Budgets.model_fields.items()
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    }
    named.remove("speed.minutes")  # how long speed.sustained is measured
    assert set(budget_words()) == named | {"device.memory", "device.answers"}


def test_a_processor_that_answers_otherwise_is_told() -> None:
    report = samples.report()
    verdict = report.verdicts[-2]
    lines = [*verdict.lines]
    lines[-1] = lines[-1].model_copy(update={"budget": "device.answers", "status": "fail"})
    changed = verdict.model_copy(update={"lines": tuple(lines), "status": "fail"})
    written = write(facts_of(report.model_copy(update={"verdicts": (changed,)})))
    assert budget_words()["device.answers"] in written.piece.text
    assert problems(written) == []


def edited(text: str, *, part: int = 2) -> Written:
    """A good piece with `text` added to one of its parts."""
    written = write(facts_of(samples.report()))
    parts = list(written.piece.parts)
    changed = (*parts[part].paragraphs, text)
    parts[part] = parts[part].model_copy(update={"paragraphs": changed})
    piece = written.piece.model_copy(update={"parts": tuple(parts)})
    return dataclasses.replace(written, piece=piece)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It works like magic.", "promises"),
        ("The affine map is cheap.", "jargon"),
        ("The KL divergence is small.", "jargon"),
        ("Tensor cores help.", "jargon"),
        ("Meet Sarah, who builds an app.", "an invented person"),
        ("Imagine a developer in a hurry.", "an invented person"),
        ("It runs 40 times an hour.", "a number from nowhere"),
        ("It takes 4.6 MiB.", "a number from nowhere"),
        ("Think of a garden hose.", "an analogy from nowhere"),
        ("Gguf files are common.", "is called GGUF"),
        ("It was rounded by gptq.", "is called GPTQ"),
        ("We chose q4_k_m for it.", "is called Q4_K_M"),
    ],
)
def test_the_linter_finds_what_breaks_a_rule(text: str, found: str) -> None:
    assert any(problem.startswith(found) or found in problem for problem in problems(edited(text)))


def test_a_speed_that_nobody_measured_is_found() -> None:
    written = edited("It is much faster now.")
    assert problems(written) == []  # the waiting was measured, beside the original's
    unseen = tuple(b for b in written.facts.budgets if not b.budget.startswith("latency."))
    silent = dataclasses.replace(written, facts=dataclasses.replace(written.facts, budgets=unseen))
    assert any("speed" in problem for problem in problems(silent))


def test_an_analogy_that_is_missing_is_found() -> None:
    written = write(facts_of(samples.report()))
    parts = [part for part in written.piece.parts if part.title != "What quantization is"]
    piece = written.piece.model_copy(update={"parts": (parts[0], *parts)})
    assert problems(dataclasses.replace(written, piece=piece))


@examples(40)
@given(st.integers(2**20, 2**33), st.integers(2**20, 2**30), st.integers(0, 2**30), st.booleans())
def test_the_parts_of_the_memory_that_are_told_add_up(
    mapped: int, runtime: int, held: int, counts_mapped: bool
) -> None:
    kinds = {"anonymous_bytes": runtime // 2}
    files = runtime - runtime // 2
    base = MemoryReading(resident_bytes=runtime, file_mapped_bytes=files, **kinds)
    after = MemoryReading(
        resident_bytes=runtime + mapped, file_mapped_bytes=files + mapped, **kinds
    )
    memory = verdicts.memory().model_copy(
        update={"baseline": base, "ran": after, "high_water_bytes": runtime + mapped + held}
    )
    shares = _shares(memory, counts_mapped=counts_mapped)
    assert shares is not None
    parts = [shares.mapped, shares.working, shares.runtime]
    told, total = (
        [Decimal(each.split()[0]) for each in group] for group in (parts, [shares.total])
    )
    assert sum(told) == total[0]
    assert abs(total[0] - Decimal(memory.high_water_bytes) / MIB) < Decimal("0.06")
    assert told[1] >= 0
    written = write(dataclasses.replace(PASSED, exceptions=None, budgeted=None, memory=shares))
    assert problems(written) == []
    assert all(part in written.piece.text for part in [*parts, shares.total])
    assert ("this device counts" in written.piece.text) != counts_mapped


def test_nothing_checked_is_nothing_to_explain() -> None:
    with pytest.raises(InvalidInput, match="nothing in it was checked"):
        facts_of(samples.report(verdicts=()))


@pytest.mark.parametrize("name", ["wren.zip", "report.html", "unzipped"])
def test_a_plan_of_what_is_built_already_is_refused(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    if name == "unzipped":
        source.mkdir()
        (source / BUNDLE_FILE).write_text("{}")
    with pytest.raises(InvalidInput, match="already built") as refused:
        facts_of_source(source, [], True, lambda step: None)
    (problem,) = refused.value.problems
    assert problem.remedy == f"run: edgeq explain {source}"


def test_a_page_is_explained_within_80_columns(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra [report] is not installed")
    from edgeq.report.explanation import print_piece
    from edgeq.report.page.write import open_report, write_page

    page = tmp_path / "report.html"
    write_page(samples.report(), page)
    piece = write(facts_of(open_report(page, [], lambda step: None))).piece
    assert piece == write(facts_of(samples.report())).piece
    text = page.read_text(encoding="utf-8")
    assert piece.title in text
    assert piece.parts[3].points[0] in text
    with (tmp_path / "out.txt").open("w+") as file:
        print_piece(piece, make_console(file))
        file.seek(0)
        lines = file.read().splitlines()
    assert max(len(line) for line in lines if "http" not in line) <= 80
    assert " ".join(" ".join(lines).split()).count(piece.parts[1].paragraphs[0]) == 1
    with pytest.raises(InvalidInput, match="--device"):
        open_report(page, ["here"], lambda step: None)
