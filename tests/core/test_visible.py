"""Text of others never steers a terminal, wherever it is shown."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from edgeq.core.visible import visible, visible_json
from edgeq.report.console import Text, make_console
from edgeq.report.tables import print_table
from tests.support.terminal import edgeq_in_terminal

ROOT = Path(__file__).parents[2]
HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eevil\u2066\r\x08\x7f\udcff"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF)))
def test_text_is_kept_but_for_what_steers(text: str) -> None:
    shown = visible(text)
    assert not STEERING.search(shown)
    assert visible(shown) == shown
    shown.encode()  # no lone surrogates
    if text.isprintable():
        assert shown == text


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF)))
def test_json_says_the_same(text: str) -> None:
    dumped = visible_json(json.dumps({"a": text}, ensure_ascii=False))
    assert not STEERING.search(dumped)
    assert json.loads(dumped) == {"a": text}


def printed(what: object) -> str:
    file = io.StringIO()
    make_console(file).print(what)
    return file.getvalue()


def test_every_way_into_a_console_is_escaped() -> None:
    table = Table()
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    every = [HOSTILE, Text(HOSTILE), Text.assemble(HOSTILE, (HOSTILE, "bold")), table]
    for what in every:
        shown = printed(what)
        assert not STEERING.search(shown)
        assert r"\x1b]0;title\x07" in shown.replace("\n", "").replace("│", "") or what is table
    assert printed("[bold]a[/] :smile:") == "[bold]a[/] :smile:\n"


def test_a_cell_stays_in_its_row() -> None:
    table, file = Table(box=None), io.StringIO()
    table.add_column("name")
    table.add_row("a\nall: pass")
    print_table(table, make_console(file))
    assert "a\\nall: pass" in file.getvalue()


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "edgeq", *arguments],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


NAMED = f"edgeq: 1\nname: {json.dumps(HOSTILE[:-1])}\nmodel: {{source: {json.dumps(HOSTILE[:-1])}}}"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_errors_of_a_hostile_recipe_are_shown_escaped(tmp_path: Path, encoding: str) -> None:
    recipe = tmp_path / "re\x1b[2Jcipe.yaml"
    recipe.write_text(NAMED, encoding="utf-8")
    for arguments in (
        [recipe],
        [recipe, "--json"],
        [b"\xff.yaml".decode("utf-8", "surrogateescape")],
    ):
        done = run("plan", *arguments, PYTHONIOENCODING=encoding)
        assert done.returncode == 2
        text = (done.stdout + done.stderr).decode(encoding)
        assert text
        assert not STEERING.search(text)
        assert "Traceback" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_our_colours_and_nobody_else_s(tmp_path: Path) -> None:
    name = "no\x1b[31msuch\x1b]0;x\x07.yaml"
    shown = edgeq_in_terminal("plan", name, cwd=ROOT)
    assert "\x1b[1;31merror: " in shown
    assert r"no\x1b[31msuch\x1b]0;x\x07.yaml" in shown


HOSTILE_GGUF = ROOT.parent / "shared" / "cases" / "hostile" / "escape-sequences.gguf"


@pytest.mark.skipif(not HOSTILE_GGUF.is_file(), reason="the shared cases are not here")
def test_an_audit_of_a_hostile_file_is_escaped() -> None:
    pytest.importorskip("xllamacpp", reason="the gguf extra is not installed")
    for arguments in ([], ["--json"]):
        done = run("audit", HOSTILE_GGUF, *arguments)
        assert done.returncode == 1
        assert b"ALL GOOD" in done.stdout
        assert not STEERING.search(done.stdout.decode() + done.stderr.decode())


def test_only_the_console_s_module_names_rich_s_console_and_text() -> None:
    modules = sorted((ROOT / "edgeq").rglob("*.py"))
    naming = [path.name for path in modules if re.search(r"rich\.(text|console)", path.read_text())]
    assert naming == ["console.py"]


def test_junit_of_hostile_names_is_xml() -> None:
    from edgeq.report.junit import junit
    from tests.support.verdicts import verdict

    text = junit([verdict({}).model_copy(update={"artifact": HOSTILE, "notes": (HOSTILE,)})])
    ElementTree.fromstring(text.encode())
    assert "\x1b" not in text
