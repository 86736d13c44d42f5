"""Tables for people: whatever the width of the terminal, figures are whole."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from edgeq.report.console import Console, make_console
from edgeq.report.tables import print_table
from tests.support.properties import examples

NAMES = ("device", "tensors", "one app may use", "how", "why", "1 − cosine")
FIGURES = st.from_regex(r"[0-9]{1,7}\.[0-9] (MiB|tok/s) \([0-9]{1,4}–[0-9]{1,6}\)", fullmatch=True)
WORDS = st.lists(st.from_regex(r"[a-z*]{1,9}([._][a-z]{1,9}){0,7}", fullmatch=True), max_size=5)


def shown(table: Table, width: int) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, color_system=None)
    print_table(table, console)
    return file.getvalue()


def words(text: str) -> str:
    return re.sub(r"[\s;]+", "", text)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, list[list[str]]]:
    """Texts that fold, figures on the right, then texts that do not fold; and their cells."""
    kinds = draw(st.lists(st.sampled_from(["fold", "figure", "whole"]), min_size=1, max_size=6))
    table = Table(box=None, padding=(0, draw(st.integers(1, 2)), 0, 0), pad_edge=False)
    for kind, name in zip(kinds, NAMES, strict=False):
        is_figure = kind == "figure"
        table.add_column(
            name,
            justify="right" if is_figure else "left",
            no_wrap=kind == "whole",
            overflow="fold",
        )
    rows = [
        [draw(FIGURES) if kind == "figure" else " ".join(draw(WORDS)) for kind in kinds]
        for _ in range(draw(st.integers(1, 4)))
    ]
    for row in rows:
        table.add_row(*row, style="bold")
    return table, rows


@given(tables(), st.sampled_from([120, 80, 60, 40, 30]))
@examples(150)
def test_no_figure_is_cut_and_no_letter_is_lost(
    given: tuple[Table, list[list[str]]], width: int
) -> None:
    table, rows = given
    text = shown(table, width)
    for row in rows:
        for cell in row:
            for word in cell.split() if any(letter.isdigit() for letter in cell) else ():
                assert re.search(rf"(?<![\d.–]){re.escape(word)}(?![\d.–])", text)
    letters = sorted(words(text))
    for letter in words("".join("".join(row) for row in rows)):
        letters.remove(letter)  # raises where one is missing
    assert "…" not in text
    longest = max((len(w) for row in rows for cell in row for w in cell.split()), default=0)
    assert max(map(len, text.splitlines())) <= max(width, longest + 3)


@pytest.mark.parametrize("width", [80, 60, 40])
def test_styles_stay_with_their_cells(width: int) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("artifact", no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_row("gguf-Q2_K-gptq-recover4", "108.3 MiB", Text("fail", style="bold red"))
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system="standard")
    print_table(table, console)
    assert re.search(r"\x1b\[1;31mfail *\x1b\[0m", file.getvalue())
    assert len(file.getvalue().splitlines()) == 2


def test_a_row_that_does_not_fit_is_told_by_the_names_of_its_columns() -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    for name in ("limit", "resident", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_row("1024.5 MiB", "998.7 MiB", "1.02×", "fits")
    table.add_row("none", "", "1.00×", "")
    assert shown(table, 36).splitlines() == [
        "limit: 1024.5 MiB",
        "  resident: 998.7 MiB; ratio: 1.02×;",
        "  verdict: fits",
        "limit: none",
        "  ratio: 1.00×",
    ]
    assert shown(table, 40).splitlines()[0].split() == ["limit", "resident", "ratio", "verdict"]


def test_a_long_name_is_broken_behind_a_dot() -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("tensors", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_row("model.layers.*.mlp.gate_proj.weight", "0.047 MiB")
    lines = shown(table, 36).splitlines()
    assert [line.rstrip() for line in lines[1:]] == [
        "model.layers.*.mlp.        0.047 MiB",
        "gate_proj.weight",
    ]


def test_a_width_of_0_is_an_unknown_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert make_console(io.StringIO()).width == 80
