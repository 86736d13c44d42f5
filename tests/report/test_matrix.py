"""The table of a matrix: every verdict once, in 80 columns."""

from __future__ import annotations

import io

from edgeq.devices.catalogue import device_ids, load_device
from edgeq.pipeline.matrix.run import Judged
from edgeq.report.console import make_console
from edgeq.report.matrix import print_matrix
from tests.support.verdicts import verdict

BUDGETS = {
    "memory": {"peak": "10 MiB"},
    "latency": {"p90": "40 ms"},
    "size": {"download": "30 MiB"},
}


def printed(judged: list[Judged], *, lines: bool = False) -> str:
    output = io.StringIO()
    print_matrix(judged, make_console(output), lines=lines)
    return output.getvalue()


def test_every_device_has_a_column_and_no_line_is_too_long() -> None:
    ids = device_ids()
    judged = [
        Judged(recipe, verdict(BUDGETS, device=load_device(id)))
        for recipe in ("minilm-search", "another-name")
        for id in ids
    ]
    text = printed(judged)
    assert max(map(len, text.splitlines())) <= 80
    headings = [row for row in text.splitlines() if row.startswith("recipe: artifact")]
    assert [id for row in headings for id in row.split()[2:]] == ids
    rows = [row for row in text.splitlines() if row.startswith("another-name: ")]
    words = " ".join(row.split(maxsplit=2)[2] for row in rows)
    statuses = {each.verdict.device: each.verdict.status for each in judged}
    assert words.replace("not run", "not-run").split() == [
        statuses[id].replace(" ", "-") for id in ids
    ]


def test_how_lines_are_known_and_what_fell_short_are_told() -> None:
    here, board = load_device("here"), load_device("pi5-8gb")
    judged = [Judged("search", verdict(BUDGETS, device=device)) for device in (here, board)]
    text = " ".join(printed(judged).split())
    assert "here, lines: 4 measured" in text
    assert "pi5-8gb, lines: 1 measured, 3 not run" in text
    assert f"fail: search: {judged[0].verdict.artifact} on here: memory.peak" in text
    assert "wanted at most 10.0 MiB" in text
    assert "not run: memory.peak on pi5-8gb: it was run on" in text


def test_all_lines_are_printed_where_they_are_asked_for() -> None:
    judged = [Judged("search", verdict(BUDGETS, device=load_device("here")))]
    table = printed(judged, lines=True)
    for line in judged[0].verdict.lines:
        assert any(
            row.startswith(line.budget) and line.how in row and line.status in row
            for row in table.splitlines()
        )
    assert table.endswith(printed(judged))
