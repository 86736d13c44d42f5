"""Verdicts: the rules, on chosen numbers."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.devices.catalogue import load_device
from edgeq.devices.profile import Device
from edgeq.estimate.devices import Estimates
from edgeq.estimate.interval import Interval
from edgeq.estimate.memory import MemoryEstimate
from edgeq.measure.intervals import Bounds
from edgeq.pipeline.check.judge import decide
from edgeq.pipeline.check.verdict import Status, Verdict, exit_status, worst
from edgeq.report.console import make_console
from edgeq.report.terminal import print_verdict
from tests.support.verdicts import (
    ALL_BUDGETS,
    MIB,
    OUTPUT,
    full_precision,
    latency,
    line,
    measurement,
    memory,
    quality,
    verdict,
)

finite = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(ends=st.tuples(finite, finite), limit=finite, at_most=st.booleans())
def test_a_limit_inside_the_interval_is_inconclusive(
    ends: tuple[float, float], limit: float, at_most: bool
) -> None:
    low, high = sorted(ends)
    status = decide(low, high, limit, at_most=at_most)
    assert (status == "inconclusive") == (low <= limit < high if at_most else low < limit <= high)
    # The other side of the same limit, mirrored, gives the same word.
    assert status == decide(-high, -low, -limit, at_most=not at_most)


@pytest.mark.parametrize("at_most", [True, False])
def test_an_exact_value_on_the_limit_passes(at_most: bool) -> None:
    assert decide(5, 5, 5, at_most=at_most) == "pass"


def test_an_open_interval_never_passes_an_upper_bound() -> None:
    assert decide(1, None, 1e9, at_most=True) == "inconclusive"
    assert decide(2, None, 1, at_most=True) == "fail"


@pytest.mark.parametrize(
    ("statuses", "status", "code"),
    [
        ([], "pass", 0),
        (["pass", "pass"], "pass", 0),
        (["pass", "not run"], "not run", 3),
        (["not run", "inconclusive"], "inconclusive", 4),
        (["inconclusive", "not run", "fail"], "fail", 1),
    ],
)
def test_the_worst_line_decides(statuses: list[Status], status: Status, code: int) -> None:
    assert (worst(statuses), exit_status(statuses)) == (status, code)


def test_everything_kept_is_a_pass_with_margins() -> None:
    found = verdict(ALL_BUDGETS)
    assert (found.status, found.exit_status, found.notes) == ("pass", 0, ())
    assert {line.how for line in found.lines} == {"measured"}
    assert all(line.margin is not None and line.margin >= 0 for line in found.lines)
    peak = line(found, "memory.peak")
    assert (peak.value, peak.margin, peak.margin_share) == (120 * MIB, 80 * MIB, 0.4)
    assert peak.float_value == 200 * MIB
    assert line(found, "memory.growth").value == 50 * MIB
    assert line(found, "quality.cosine").margin == pytest.approx(0.005)


def test_without_budgets_the_device_still_has_its_limit() -> None:
    (only,) = verdict({}).lines
    assert only.budget == "device.memory"
    assert only.limit == load_device("here").app_limit().bytes


def test_nothing_is_rounded_before_it_is_compared() -> None:
    value = 0.98 - 1e-12
    exact = {"cosine_mean": value, "cosine_mean_bounds": Bounds(low=value, high=value)}
    just_below = OUTPUT.model_copy(update=exact)
    found = verdict(
        {"quality": {"cosine": 0.98}}, measured=measurement(quality=quality(y=just_below))
    )
    assert line(found, "quality.cosine").status == "fail"
    found = verdict(
        {"size": {"download": "25 MiB"}}, measured=measurement(download_bytes=25 * MIB + 1)
    )
    assert line(found, "size.download").status == "fail"


def test_the_worst_output_counts() -> None:
    bad = OUTPUT.model_copy(update={"cosine_mean": 0.5, "relative_rms_error": 0.9})
    found = verdict(ALL_BUDGETS, measured=measurement(quality=quality(good=OUTPUT, bad=bad)))
    assert line(found, "quality.cosine").value == 0.5
    assert line(found, "quality.error").value == 0.9


def test_a_p90_that_could_be_either_is_inconclusive() -> None:
    p90 = latency().p90
    budget = f"{p90.seconds * 1000} ms"
    found = verdict({"latency": {"p90": budget}})
    seen = line(found, "latency.p90")
    assert (found.status, found.exit_status) == ("inconclusive", 4)
    assert (seen.low, seen.high) == (p90.low_seconds, p90.high_seconds)
    assert "--full" in seen.remedy


def test_a_size_that_failed_says_what_would_fit() -> None:
    alternatives = {"int8-dynamic": 23 * MIB, "int4-b32": 14 * MIB, "tiny": 5 * MIB}
    found = verdict({"size": {"download": "20 MiB"}}, alternatives=alternatives)
    assert "int4-b32 would be 14.0 MiB (estimated)" in line(found, "size.download").remedy
    found = verdict({"size": {"download": "2 MiB"}}, alternatives=alternatives)
    assert "no known variant would fit" in line(found, "size.download").remedy


def test_a_peak_that_failed_says_what_would_fit() -> None:
    found = verdict({"memory": {"peak": "115 MiB"}}, alternatives={"int4-b32": 14 * MIB})
    remedy = line(found, "memory.peak").remedy
    assert "int4-b32, 14.0 MiB to download, would take about 111.0 MiB (estimated)" in remedy


def test_a_quality_that_failed_names_the_next_larger_variant() -> None:
    alternatives = {"int4-b32": 14 * MIB, "float32": 90 * MIB, "int8-b32": 24 * MIB}
    found = verdict({"quality": {"cosine": 0.999}}, alternatives=alternatives)
    assert "try int8-b32, 24.0 MiB (estimated)" in line(found, "quality.cosine").remedy


def test_a_budget_that_a_remedy_names_would_pass() -> None:
    measured = measurement(download_bytes=23 * MIB + 1)
    failed = line(verdict({"size": {"download": "20 MiB"}}, measured=measured), "size.download")
    named = failed.remedy.split("a budget of ")[1]
    assert named == "23.1 MiB"
    assert verdict({"size": {"download": named}}, measured=measured).status == "pass"


def test_a_quality_budget_that_a_remedy_names_would_pass() -> None:
    bounds = Bounds(low=0.701234, high=0.85)
    output = OUTPUT.model_copy(update={"cosine_mean": 0.8, "cosine_mean_bounds": bounds})
    measured = measurement(quality=quality(y=output))
    failed = line(verdict({"quality": {"cosine": 0.9}}, measured=measured), "quality.cosine")
    named = failed.remedy.split("a budget of ")[1]
    assert (failed.status, named) == ("fail", "0.70123")
    again = verdict({"quality": {"cosine": float(named)}}, measured=measured)
    assert again.status == "pass"


def test_no_gain_over_float_is_said_aloud() -> None:
    slow = measurement(
        latency=latency(p50=0.05),
        download_bytes=91 * MIB,
        memory=memory(high_water=300, anonymous_peak=140),
    )
    notes = " | ".join(verdict({}, measured=slow).notes)
    assert "slower than float: p50 50.0 ms compared with 30.0 ms (measured here)" in notes
    assert "not smaller than float: 91.0 MiB compared with 90.0 MiB (measured)" in notes
    assert "more anonymous memory than float: 100.0 MiB compared with 90.0 MiB" in notes
    close = measurement(latency=latency(p50=0.030))
    assert "not faster than float beyond the noise" in verdict({}, measured=close).notes[0]


def test_full_precision_is_not_held_against_itself() -> None:
    same = full_precision()
    assert verdict({}, measured=same, baseline=same).notes == ()


def test_a_failed_pass_is_a_failure_with_its_reason() -> None:
    reason = "the memory pass was killed by SIGKILL"
    broken = measurement(memory=None, failures={"memory": reason})
    found = verdict({"memory": {"peak": "200 MiB"}}, measured=broken)
    peak = line(found, "memory.peak")
    assert (peak.status, peak.value, peak.margin) == ("fail", None, None)
    assert reason in peak.reason
    assert found.exit_status == 1


def test_without_anything_to_compare_with_quality_is_not_run() -> None:
    budgets = {"quality": {"cosine": 0.9, "top1": 0.9}}
    nothing = verdict(budgets, measured=measurement(quality=None))
    assert line(nothing, "quality.cosine").status == "not run"
    assert "evaluation" in line(nothing, "quality.cosine").remedy
    baseline = full_precision(failures={"quality": "killed by SIGKILL"})
    broken = verdict(budgets, measured=measurement(quality=None), baseline=baseline)
    assert "killed by SIGKILL" in line(broken, "quality.cosine").reason
    no_logits = OUTPUT.model_copy(update={"top1_agreement": None})
    found = verdict(budgets, measured=measurement(quality=quality(y=no_logits)))
    assert line(found, "quality.top1").status == "not run"


def other(arch: str, **changes: Any) -> Device:
    """Another machine of the given architecture."""
    here = load_device("here")
    facts = {"id": "other", "chip": "Another Chip", "arch": arch, "instruction_sets": ()}
    return here.model_copy(update={**facts, **changes})


def test_a_device_of_the_same_architecture_is_emulated() -> None:
    found = verdict(ALL_BUDGETS, device=other(load_device("here").arch))
    hows = {line.budget: (line.how, line.status) for line in found.lines}
    assert hows["memory.peak"] == hows["device.memory"] == ("emulated", "pass")
    assert hows["quality.cosine"] == ("emulated", "pass")
    assert hows["size.download"] == ("measured", "pass")
    assert hows["latency.p90"] == ("not run", "not run")
    assert found.exit_status == 3


def test_a_device_of_another_architecture_has_size_and_quality() -> None:
    arch = {"x86_64": "aarch64", "aarch64": "x86_64"}[load_device("here").arch]
    found = verdict(ALL_BUDGETS, device=other(arch))
    hows = {line.budget: line.how for line in found.lines}
    assert hows["memory.peak"] == hows["device.memory"] == hows["latency.p50"] == "not run"
    assert hows["quality.cosine"] == "emulated"
    assert hows["size.download"] == "measured"
    assert "may answer differently" in line(found, "quality.cosine").reason


@pytest.mark.parametrize(
    ("limit", "status"), [("30 ms", "not run"), ("15 ms", "not run"), ("9 ms", "fail")]
)
def test_an_estimate_can_fail_a_budget_and_never_passes_one(limit: str, status: str) -> None:
    arch = {"x86_64": "aarch64", "aarch64": "x86_64"}[load_device("here").arch]
    size = Interval(value=90 * MIB, low=80 * MIB, high=100 * MIB, basis="sizes")
    estimates = Estimates(
        memory=MemoryEstimate(peak=size, footprint=size, growth=size, parts={}),
        latency=Interval(value=0.02, low=0.01, high=0.04, basis="bandwidth"),
        backend="CPU",
    )
    found = verdict({"latency": {"p90": limit}}, device=other(arch), expected=estimates)
    p90 = line(found, "latency.p90")
    assert (p90.how, p90.status, p90.value) == ("estimated", status, 0.02)
    assert p90.reason.endswith("; estimate: bandwidth")
    assert line(found, "device.memory").status == "not run"


def test_a_line_says_which_way_it_is_bound_and_why() -> None:
    found = verdict(ALL_BUDGETS)
    bounds = {each.budget: each.bound for each in found.lines}
    lower = {"quality.cosine", "quality.spearman", "quality.top1"}
    assert {name for name, bound in bounds.items() if bound == "at least"} == lower
    assert all(each.samples_wanted is None for each in found.lines)
    exact = line(found, "size.download")
    assert (exact.reason, exact.remedy) == ("", "")
    few = OUTPUT.model_copy(update={"samples": 3, "distinct": 3})
    arch = {"x86_64": "aarch64", "aarch64": "x86_64"}[load_device("here").arch]
    measured = measurement(quality=quality(y=few))
    cosine = line(verdict(ALL_BUDGETS, measured=measured, device=other(arch)), "quality.cosine")
    assert cosine.reason.startswith("3 different samples are too few for an interval; run on ")


def test_memory_is_judged_by_what_the_device_counts() -> None:
    found = verdict(
        {"memory": {"peak": "100 MiB", "growth": "20 MiB"}},
        device=other(load_device("here").arch, counts="footprint"),
    )
    assert line(found, "memory.peak").value == 50 * MIB
    assert line(found, "memory.growth").value == 10 * MIB


def test_json_of_a_verdict_is_read_back_and_described() -> None:
    found = verdict(ALL_BUDGETS)
    text = found.model_dump_json()
    assert Verdict.model_validate_json(text) == found
    assert json.loads(text)["lines"][0]["budget"] == "device.memory"
    fields = Verdict.model_json_schema()["$defs"]["Line"]["properties"]
    assert all("description" in field for field in fields.values())


def printed(found: Verdict) -> str:
    output = io.StringIO()
    print_verdict(found, make_console(output))
    return output.getvalue()


def test_the_table_is_plain_and_80_columns_wide_where_piped() -> None:
    slow = measurement(latency=latency(p50=1.5, spread=0.5), failures={"quality": "x " * 100})
    budgets = {**ALL_BUDGETS, "latency": {"p50": "1500 ms", "p90": "12345 ms"}}
    for device in (load_device("here"), load_device("pi5-8gb"), load_device("galaxy-s24")):
        found = verdict(budgets, measured=slow, device=device)
        text = printed(found)
        assert text.isascii()
        assert "\x1b" not in text
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80
        for one in found.lines:
            row = next(row for row in text.splitlines() if row.startswith(one.budget))
            assert re.search(rf"{one.how} +{one.status}$", row.rstrip())


def test_the_table_says_what_was_seen_and_what_is_next() -> None:
    found = verdict({"size": {"download": "20 MiB"}, "latency": {"p90": "40 ms"}})
    text = " ".join(printed(found).split())
    assert "onnx-int8-dynamic on here" in text
    assert "<= 20.0 MiB 23.0 MiB 90.0 MiB -15.0% measured fail" in text
    assert "latency.p90: 95 % interval" in text
    assert "next: no known variant would fit" in text
