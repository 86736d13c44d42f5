"""The line of progress: plain in a log, and without colour in a terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest

from edgeq.report.progress import progress_line, show_progress
from tests.support.terminal import in_terminal

CODE = """
import time
from edgeq.report.progress import progress_line
with progress_line() as progress:
    progress("measure latency")
    time.sleep(0.3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal on Windows")
@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}, {"NO_COLOR": ""}], ids=str)
def test_a_spinner_has_no_colour(more: dict[str, str]) -> None:
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    read = in_terminal(CODE, cwd=Path.cwd(), **terminal, **more)
    assert b"measure latency" in read
    assert b"\x1b[?25l" in read  # it is shown as in a terminal
    assert b"m" not in read.replace(b"measure latency", b"")  # no ESC [ … m, which sets a style


def test_a_log_gets_nothing_of_what_is_quick() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_log_gets_the_step_that_takes_long(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is announced right after another, and nothing is announced after it."""
    monkeypatch.setattr("edgeq.report.progress._SECONDS_BETWEEN_LINES", 0.05)
    with progress_line() as progress:
        for step in ("measure latency", "measure memory"):
            progress(step)
        deadline, read = time.monotonic() + 30, ""
        while "memory" not in read and time.monotonic() < deadline:
            time.sleep(0.05)
            read += capfd.readouterr().err
        time.sleep(0.2)
    read += capfd.readouterr().err
    assert read.endswith(" s  measure memory\n") and read.count("memory") == 1


@pytest.mark.parametrize(
    ("how", "lines"), [("nothing", []), ("every step", ["measure latency", "measure memory"])]
)
def test_a_person_may_ask_for_more_or_nothing(
    how: Literal["nothing", "every step"], lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    show_progress(how)
    try:
        with progress_line() as progress:
            progress("measure latency")
            progress("measure memory")
    finally:
        show_progress("steps")
    assert [line.split(" s  ")[1] for line in capfd.readouterr().err.splitlines()] == lines
