"""Temporary directories: a killed process leaves one, and the next process removes it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from edgeq.core import temporary
from edgeq.core.temporary import TemporaryFolder

EDGEQ = Path(temporary.__file__).parents[1]
HOLD = """
import os, sys
from pathlib import Path
from edgeq.core.temporary import TemporaryFolder
with TemporaryFolder() as folder:
    Path(folder, "large").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="directories cannot be locked there")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, in this process and in those it starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def hold() -> tuple[subprocess.Popen[str], Path]:
    """A process with a temporary directory."""
    command = [sys.executable, "-c", HOLD]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=EDGEQ.parent
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_is_swept_and_nothing_else(folder: Path) -> None:
    killed, left = hold()
    living, used = hold()
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert (left / "large").exists()
    (folder / "edgeq-tmp-file0000").touch()
    (folder / "edgeq-tests-abcdefgh").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "edgeq-tmp-link0000").symlink_to(folder / "elsewhere")
    temporary.sweep()
    names = {used.name, "edgeq-tmp-file0000", "edgeq-tests-abcdefgh"}
    assert {path.name for path in folder.iterdir()} == {*names, "elsewhere", "edgeq-tmp-link0000"}
    living.communicate("")
    assert not used.exists()


def test_what_belongs_to_another_user_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "edgeq-tmp-abcdefgh").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    temporary.sweep()
    assert (folder / "edgeq-tmp-abcdefgh").is_dir()


def test_a_directory_that_is_swept_before_it_is_locked_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, lock = [], temporary._lock

    def swept_first(path: Path) -> int:
        made.append(path)
        if len(made) == 1:
            path.rmdir()
        return lock(path)

    monkeypatch.setattr(temporary, "_lock", swept_first)
    with TemporaryFolder() as name:
        assert Path(name) == made[1]
        assert Path(name).is_dir()


def test_sweepers_take_nothing_that_is_in_use(folder: Path) -> None:
    ended = threading.Event()

    def sweep() -> None:
        while not ended.is_set():
            temporary.sweep()

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for _ in range(200):
            with TemporaryFolder() as name:
                Path(name, "a").touch()
                assert [each.name for each in Path(name).iterdir()] == ["a"]
    finally:
        ended.set()
        for sweeper in sweepers:
            sweeper.join()
    assert list(folder.iterdir()) == []


def test_where_directories_cannot_be_locked_nothing_is_swept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> int:
        raise OSError("no locks here")

    with monkeypatch.context() as patch:
        patch.setattr(temporary, "_lock", refuse)
        made = TemporaryFolder()
    temporary.sweep()
    assert Path(made.name).is_dir()
    made.cleanup()
    assert list(folder.iterdir()) == []


def test_a_command_sweeps_when_it_starts(folder: Path) -> None:
    (folder / "edgeq-tmp-abcdefgh").mkdir()
    command = [sys.executable, "-c", "from edgeq.cli.main import main; main()", "devices"]
    subprocess.run(command, cwd=EDGEQ.parent, check=True, stdout=subprocess.DEVNULL)
    assert list(folder.iterdir()) == []


def test_every_temporary_directory_of_edgeq_is_of_this_kind() -> None:
    """But those in a directory of a stage or a session, which go with it."""
    others = re.compile(r"mkdtemp\((?!dir=)|TemporaryDirectory\((?!dir=)")
    for path in EDGEQ.rglob("*.py"):
        assert not others.search(path.read_text(encoding="utf-8")), path
