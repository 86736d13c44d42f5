"""JUnit XML: parsed again, counted, and safe from what XML cannot hold."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from edgeq.report.junit import junit
from tests.support.properties import examples
from tests.support.verdicts import latency, measurement, verdict

MIXED = {
    "memory": {"peak": "100 MiB"},
    "latency": {"p90": f"{latency().p90.seconds * 1000} ms"},
    "size": {"download": "25 MiB"},
    "quality": {"cosine": 0.9},
}


def test_every_line_is_a_case_with_its_outcome() -> None:
    found = verdict(MIXED, measured=measurement(quality=None))
    root = ElementTree.fromstring(junit([found, found]))
    assert root.tag == "testsuites"
    assert len(root) == 2
    suite = root[0]
    assert suite.attrib == {
        "name": "onnx-int8-dynamic on here",
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    outcomes = {
        case.attrib["name"]: [child.tag for child in case] for case in suite.iter("testcase")
    }
    assert outcomes == {
        "device.memory": [],
        "memory.peak": ["failure"],
        "latency.p90": ["error"],
        "size.download": [],
        "quality.cosine": ["skipped"],
    }
    failure = next(suite.iter("failure"))
    assert failure.attrib["message"] == "measured: 120.0 MiB, wanted at most 100.0 MiB"
    assert "a budget of 120.0 MiB" in (failure.text or "")


def test_notes_are_carried() -> None:
    slow = measurement(latency=latency(p50=0.05))
    root = ElementTree.fromstring(junit([verdict({}, measured=slow)]))
    assert "slower than float" in (root.findtext("testsuite/system-out") or "")


@examples(50)
@given(reason=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_reason_gives_valid_xml(reason: str) -> None:
    broken = measurement(memory=None, failures={"memory": f"died: {reason}"})
    root = ElementTree.fromstring(junit([verdict(MIXED, measured=broken)]))
    assert "died: " in (next(root.iter("failure")).text or "")
