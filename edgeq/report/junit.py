"""Verdicts as JUnit XML, the format that build servers read.

One test suite for each verdict, one test case for each line: fail is a failure, inconclusive an
error, not run is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import Line, Status, Verdict

_ELEMENTS: dict[Status, str] = {"fail": "failure", "inconclusive": "error", "not run": "skipped"}
_COUNTERS: dict[Status, str] = {"fail": "failures", "inconclusive": "errors", "not run": "skipped"}
# Characters that XML 1.0 cannot contain, even escaped: section 2.2, Char.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(verdicts: Sequence[Verdict]) -> str:
    """Return the XML document for `verdicts`, in order."""
    root = ElementTree.Element("testsuites", name="edgeq")
    for verdict in verdicts:
        name = _plain(f"{verdict.artifact} on {verdict.device}")
        counts = _counts([line.status for line in verdict.lines])
        attributes = {"name": name, "tests": str(len(verdict.lines)), **counts}
        suite = ElementTree.SubElement(root, "testsuite", attributes)
        for line in verdict.lines:
            _add(suite, line)
        if verdict.notes:
            ElementTree.SubElement(suite, "system-out").text = _plain("\n".join(verdict.notes))
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _counts(statuses: Sequence[Status]) -> dict[str, str]:
    return {name: str(statuses.count(status)) for status, name in _COUNTERS.items()}


def _add(suite: ElementTree.Element, line: Line) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=suite.attrib["name"], name=line.budget
    )
    if line.status == "pass":
        return
    seen = "nothing" if line.value is None else format_value(line.value, line.unit)
    limit = format_value(line.limit, line.unit)
    message = f"{line.how}: {seen}, wanted {line.bound} {limit}"
    outcome = ElementTree.SubElement(
        case, _ELEMENTS[line.status], message=_plain(message), type=line.status
    )
    outcome.text = _plain("\n".join(filter(None, [line.reason, line.remedy])))


def _plain(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
