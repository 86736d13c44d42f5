"""How commands end: never with status 1 for an exception, and as JSON where JSON was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "new": ["none"],
    "starter": ["none.zip", "--language", "javascript", "--out", "none"],
    "plan": ["none.yaml"],
    "build": ["none.yaml"],
    "check": ["none.yaml"],
    "bundle": ["none.yaml", "--out", "none/out.zip"],
    "devices": ["none"],
    "run": ["none.zip", "text"],
    "compare": ["none.gguf", "none.gguf", "--prompt", "x"],
    "audit": ["none.gguf"],
    "quantize": ["none.gguf", "out.gguf"],
    "imatrix": ["none.yaml", "--out", "none/out.gguf"],
    "report": ["none.yaml", "-o", "none/out.html"],
    "explain": ["none.yaml"],
    "sensitivity": ["none.yaml"],
    "frontier": ["none.yaml"],
    "matrix": ["none.yaml"],
    "recommend": ["none"],
    "min-memory": ["none.zip"],
    "compare-cpus": ["none.yaml"],
    "bom": ["none.zip", "--out", "out.json"],
}


def run(*arguments: str, code: str = "", cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; `code` runs first."""
    return subprocess.run(
        [sys.executable, "-c", f"{code}\nfrom edgeq.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(cwd)},
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every command says with --json to an input that is not there, by one process."""
    code = (
        "import contextlib, io, json, sys\n"
        "from edgeq.cli.main import app\nfrom edgeq.cli.exit import run\n"
        "found = {}\n"
        "for name, arguments in json.loads(sys.argv[1]).items():\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        status = run(app, [name, *arguments, '--json'])\n"
        "    found[name] = [status, out.getvalue()]\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(COMMANDS)],
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("empty"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_is_json_where_json_was_asked_for(answers: dict[str, Any], command: str) -> None:
    status, text = answers[command]
    assert status in (2, 3)
    told = json.loads(text)
    assert told["exit_status"] == status
    assert all(problem.keys() == {"where", "what", "remedy"} for problem in told["problems"])
    assert told["problems"]


BREAK = "from edgeq.devices import catalogue\ndef fail(*_): {}\ncatalogue.list_devices = fail"


def test_a_fault_ends_with_70_one_line_and_a_file(tmp_path: Path) -> None:
    code = BREAK.format("raise KeyError('a\\x1b[2J')")
    done = run("devices", code=code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (70, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("error: edgeq has a fault: KeyError")
    assert second == "    please open an issue and attach that file"
    (file,) = tmp_path.glob("edgeq-fault-*.txt")
    assert str(file) in first
    written = file.read_text()
    assert "Traceback (most recent call last)" in written
    assert "edgeq devices" in written
    told = json.loads(run("devices", "--json", code=code, cwd=tmp_path).stdout)
    assert told["exit_status"] == 70


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [
        ("OSError(28, 'No space left on device')", 3, "the disk is full"),
        ("PermissionError(13, 'Permission denied', 'a.bin')", 2, "a.bin: Permission denied"),
        ("OSError(24, 'Too many open files', 'a.bin')", 3, "Too many open files"),
        ("MemoryError()", 3, "memory: there is not enough"),
        ("BrokenPipeError(32, 'Broken pipe')", 3, "ended while it was being written to"),
        ("KeyboardInterrupt()", 130, ""),
        ("RecursionError('too deep')", 70, "edgeq has a fault"),
    ],
)
def test_no_exception_ends_with_status_1(
    tmp_path: Path, raised: str, status: int, words: str
) -> None:
    done = run("devices", code=BREAK.format(f"raise {raised}"), cwd=tmp_path)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_stopped_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / ".edgeq").mkdir()
    done = run("devices", code=BREAK.format("raise KeyboardInterrupt()"), cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr == "stopped; finished steps are kept in .edgeq. To go on: edgeq devices\n"


def test_a_shell_completes_commands_and_devices(tmp_path: Path) -> None:
    def completed(words: str) -> list[str]:
        words_before = len(words.split(" ")) - 1
        code = (
            f"import os; os.environ.update(_EDGEQ_COMPLETE='complete_bash', COMP_WORDS={words!r}, "
            f"COMP_CWORD='{words_before}')"
        )
        return run(code=code, cwd=tmp_path).stdout.split()

    assert completed("edgeq pla") == ["plan"]
    assert completed("edgeq check a.yaml --device pi5") == ["pi5-8gb"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no full device")
def test_output_that_cannot_be_written_ends_with_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "edgeq", "devices"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 3
    assert done.stderr == "error: output: cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [
        ("MemoryError", 3, "MemoryError"),
        ("SystemError('no exception set')", 3, "no exception set"),
        ("KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_one_line(
    raised: str, status: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "typer.py").write_text(f"raise {raised}\n")
    done = subprocess.run(
        [sys.executable, "-m", "edgeq", "plan", "none.yaml"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
