"""What a verdict says of chosen differences between CPUs."""

from __future__ import annotations

import dataclasses
import io
from typing import Any
from xml.etree import ElementTree

import pytest

from edgeq.devices.catalogue import load_device
from edgeq.devices.profile import Device
from edgeq.measure.cross_cpu.records import Differences, OperatorDifference, PlaceDifferences
from edgeq.measure.cross_cpu.statistics import Statistics
from edgeq.models.onnx_session import CURES
from edgeq.pipeline.check.judge import judge
from edgeq.pipeline.check.subject import Subject
from edgeq.pipeline.check.verdict import Line, Verdict
from edgeq.recipe.budgets import Budgets
from edgeq.report.console import make_console
from edgeq.report.junit import junit
from edgeq.report.terminal import print_verdict
from tests.support.verdicts import full_precision, measurement

HASWELL = load_device("here").model_copy(
    update={
        "id": "haswell",
        "chip": "Intel Core i7-4770",
        "arch": "x86_64",
        "instruction_sets": ("sse4_2", "avx", "avx2", "fma"),
    }
)
PI = load_device("pi5-8gb")


def statistics(rms: float, noise: float) -> Statistics:
    """Off by `rms` on the whole, and evenly so."""
    return Statistics(
        elements=100,
        rms=rms,
        largest=rms,
        noise_rms=noise,
        noise_largest=noise,
        norm_ratio=1.0,
        slope=1.0,
        slope_low=0.99,
        slope_high=1.01,
        finite=True,
    )


def cured(place: str, **changes: Any) -> PlaceDifferences:
    """Products saturate there, but for the setting."""
    one = OperatorDifference(
        name="/a/MatMul",
        kind="MatMulInteger",
        why="MatMulInteger /a/MatMul: off",
        statistics=statistics(0.2, 0.005),
    )
    facts: dict[str, Any] = {
        "how": "emulated",
        "status": "cured",
        "reason": one.why,
        "operator": one.kind,
        "operators": (one,),
        "differing": 1,
        "compared": 10,
        "cure": CURES["x86_64"],
        "whole": statistics(0.001, 0.02),
    }
    return PlaceDifferences(**{"place": place, **facts, **changes})


def same(place: str, **changes: Any) -> PlaceDifferences:
    """No operator differs there."""
    facts: dict[str, Any] = {"how": "emulated", "status": "same", "reason": "", "compared": 10}
    facts["whole"] = statistics(0.0, 0.02)
    return PlaceDifferences(**{"place": place, **facts, **changes})


def lacking(place: str, reason: str) -> PlaceDifferences:
    """A class that could not be had."""
    return PlaceDifferences(place=place, how="not run", status="not run", reason=reason)


def judged(device: Device, *places: PlaceDifferences) -> Verdict:
    """A verdict on `device` of an artifact that was compared on `places`."""
    subject = Subject(
        "int8", measurement(latency=None), full_precision(latency=None), load_device("here"), {}
    )
    found = Differences(
        artifact="a", artifact_sha256="a" * 64, reference="here", places=tuple(places)
    )
    return judge(dataclasses.replace(subject, differences=found), device, Budgets())


def answers(verdict: Verdict) -> Line | None:
    """Its line on answers."""
    return next((line for line in verdict.lines if line.budget == "device.answers"), None)


def printed(verdict: Verdict) -> str:
    """As a person sees it, on plain lines of at most 80 characters."""
    file = io.StringIO()
    print_verdict(verdict, make_console(file))
    text = file.getvalue()
    assert text.isascii() and max(map(len, text.splitlines())) <= 80
    return text


def test_a_cured_class_passes_and_the_cure_is_told() -> None:
    verdict = judged(
        HASWELL, same("here", how="measured"), cured("x86: avx2"), cured("x86: avx512")
    )
    line = answers(verdict)
    assert line is not None and (line.status, line.how) == ("pass", "emulated")
    assert (line.value, line.limit, line.unit) == (0.001, 0.02, "relative error")
    assert line.margin == pytest.approx(0.019) and line.remedy == ""
    (note,) = verdict.notes
    assert note.startswith("on x86 avx2, avx512, MatMulInteger without session.x64quantprecision=1")
    assert "set at load there" in note and "off by 20.00%" in note
    assert "device.answers" in printed(verdict)


def test_a_class_that_differs_fails_its_devices_alone() -> None:
    bad = cured("x86: avx2", status="differs", whole=statistics(0.3, 0.02))
    places = (same("here", how="measured"), bad)
    verdict = judged(HASWELL, *places)
    line = answers(verdict)
    assert line is not None and line.status == verdict.status == "fail"
    assert line.margin is not None and line.margin < 0
    assert line.reason.startswith("MatMulInteger /a/MatMul: off") and "x86 avx2" in line.reason
    assert "session.x64quantprecision=1" in line.remedy
    assert "device.answers: MatMulInteger" in " ".join(printed(verdict).split())
    root = ElementTree.fromstring(junit([verdict]))
    (case,) = (case for case in root.iter("testcase") if case.get("name") == "device.answers")
    failure = case.find("failure")
    assert failure is not None and "0.30000" in failure.attrib["message"]
    here = judged(load_device("here"), *places)
    own = answers(here)
    assert own is not None and (own.status, own.how) == ("pass", "measured")
    assert here.status == "pass"
    assert any(note.startswith("answers differ on x86 avx2: ") for note in here.notes)


def test_a_pass_that_failed_there_has_no_value() -> None:
    bad = same("x86: avx2", status="differs", reason="killed by SIGILL", whole=None, compared=0)
    line = answers(judged(HASWELL, bad))
    assert line is not None and (line.status, line.value, line.margin) == ("fail", None, None)
    assert "SIGILL" in line.reason and "quantize.rules" in line.remedy


def test_what_was_not_compared_has_no_line_but_a_note() -> None:
    why = "the Arm system is not set up: edgeq emulate arm64"
    arm = [lacking(f"arm64: {name}", why) for name in ("armv8.0", "dotprod", "i8mm")]
    verdict = judged(PI, same("here", how="measured"), *arm)
    assert answers(verdict) is None
    assert verdict.notes == (f"answers not compared on arm64 dotprod: {why}",)
    printed(verdict)
    here = judged(load_device("here"), same("here", how="measured"), *arm)
    assert here.notes == ()  # what it does not need is not asked for


def test_a_device_without_instruction_sets_is_said_to_be_unknown() -> None:
    unknown = HASWELL.model_copy(update={"instruction_sets": ()})
    verdict = judged(unknown, same("x86: avx2"))
    assert answers(verdict) is None
    assert verdict.notes == (
        f"not compared for {unknown.name}: its profile names no instruction sets",
    )


def test_a_whole_alone_is_not_held_against_itself() -> None:
    gguf = same("here", how="measured", compared=0)
    assert answers(judged(load_device("here"), gguf, same("x86: avx2", compared=0))) is None


def test_without_a_comparison_nothing_is_said() -> None:
    subject = Subject("int8", measurement(), full_precision(), load_device("here"), {})
    verdict = judge(subject, load_device("here"), Budgets())
    assert verdict.differences is None and answers(verdict) is None and verdict.notes == ()
