"""Commands whose reader goes away: they end as other tools do, and say nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.cli.pipe import STATUS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no closed pipes")


def run(arguments: list[str], *, lines: int, joined: bool = False) -> tuple[int, bytes, bytes]:
    """Status, what was read before the pipe was closed, and standard error."""
    ours, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "edgeq", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs if joined else subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        os.close(theirs)
        with os.fdopen(ours, "rb") as file:
            read = b"".join(file.readline() for _ in range(lines))
        told = b"" if joined else process.stderr.read()  # type: ignore[union-attr]
    return process.returncode, read, told


@pytest.mark.parametrize(
    "arguments", [["schema"], ["devices"], ["devices", "--json"], ["plan", "--help"]], ids=" ".join
)
def test_a_closed_pipe_ends_a_command_quietly(arguments: list[str]) -> None:
    assert run(arguments, lines=0) == (STATUS, b"", b"")


def test_what_is_read_before_is_there() -> None:
    status, read, told = run(["devices"], lines=1)
    assert status in (0, STATUS)  # all of it may have been in the pipe by then
    assert read.startswith(b"id ")
    assert told == b""


def test_an_error_that_nobody_reads_ends_quietly_too() -> None:
    assert run(["plan", "nosuch.yaml"], lines=0, joined=True)[0] == STATUS


def test_an_open_pipe_changes_no_status() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeq", "plan", "nosuch.yaml"], capture_output=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert b"no such file" in done.stderr
