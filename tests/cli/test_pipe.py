"""Commands whose reader goes away: they end as other tools do, and say nothing."""

from __future__ import annotations

import os
import shlex
import signal
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
@pytest.mark.parametrize(
    ("command", "message"),
    [("--version >/dev/full", b"No space left"), ("plan nosuch.yaml 2>/dev/full", b"")],
)
def test_a_full_disk_behind_the_output_is_status_3(command: str, message: bytes) -> None:
    assert in_shell(command)[0] == 3
    assert message in in_shell(command)[1]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_status(closed: str) -> None:
    assert in_shell(f"devices {closed}") == (0, b"")
    assert in_shell(f"plan nosuch.yaml {closed}")[0] == 2


@pytest.mark.parametrize(("nohup", "status"), [("", 128 + signal.SIGHUP), ("nohup", 0)])
def test_a_terminal_that_closes_ends_a_command_as_ctrl_c_does(nohup: str, status: int) -> None:
    code = (
        "import os, signal, edgeq.cli.main as m\n"
        "def run(*_):\n"
        "    try: os.kill(os.getpid(), signal.SIGHUP); return 0\n"
        "    finally: print('tidied')\n"
        "m.run_command = run; m.main()"
    )
    line = f"{nohup} {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (status, b"tidied\n")


def test_a_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    line = (
        "mkdir gone; cd gone; rmdir ../gone; {} -c 'from edgeq.__main__ import main; main()' plan a"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", line.format(shlex.quote(sys.executable))],
        capture_output=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 2
    assert b"the current directory: cannot be read: No such file" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are always text")
@pytest.mark.parametrize("variables", ["", "EDGEQ_STORE=\udcff"])
def test_a_name_that_is_not_utf8_is_refused(variables: str) -> None:
    arguments = [*variables.split(), sys.executable, "-m", "edgeq", "plan"]
    name = "a.yaml" if variables else "a\udcff.yaml"
    done = subprocess.run(["env", *arguments, name], capture_output=True, cwd=ROOT)
    assert done.returncode == 2
    assert b"is not UTF-8\n    rename it" in done.stderr


def in_shell(command: str) -> tuple[int, bytes]:
    """Status and standard error."""
    line = f"{shlex.quote(sys.executable)} -m edgeq {command}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, cwd=ROOT)
    return done.returncode, done.stderr


def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; from edgeq.cli.pipe import open_closed_streams as o; o()\n"
        "with open('a', 'w'): subprocess.run([sys.executable, '-c', 'print(1)'], check=True)"
    )
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&- 2>&-"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment)
    assert (done.returncode, (tmp_path / "a").read_bytes()) == (0, b"")


def test_an_open_pipe_changes_no_status() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeq", "plan", "nosuch.yaml"], capture_output=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert b"no such file" in done.stderr
