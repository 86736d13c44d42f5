"""Processes that edgeq starts run nothing from the working directory and end with their parent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from edgeq.core import child
from tests.conftest import Project
from tests.support import samples
from tests.support.families import Family

EDGEQ = [str(Path(sys.executable).with_name("edgeq"))]
LOAD = ["-I", "-c", "import edgeq, sys; print(edgeq.load(sys.argv[1]).prepared)"]
RUN = (
    "import subprocess, sys; from edgeq.core import child; "
    "subprocess.run(child.command(sys.argv[1]))"
)
linux = pytest.mark.skipif(
    sys.platform != "linux", reason="Linux alone ends a process with its parent"
)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A directory with a module named like everything that edgeq imports; each leaves a file."""
    names = {name for name in metadata.packages_distributions() if name.isidentifier()}
    names |= {
        "edgeq",
        "json",
        "pip",
        "socket",
        "tempfile",
        "pathlib",
        "ctypes",
        "dataclasses",
        "typing",
    }
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in names:
        spring = f"open({str(folder / 'sprung')!r}, 'a').write('{name} ')\n"
        (folder / f"{name}.py").write_text(spring + "raise SystemExit(99)\n")
    return folder


def require_untouched(trap: Path, *command: str, store: Path | None = None) -> str:
    env = {**os.environ, "EDGEQ_STORE": str(store or trap.parent), "EDGEQ_CACHE": str(trap.parent)}
    env["EDGEQ_COMPARE_CPUS"] = "sse4"
    done = subprocess.run(command, cwd=trap, env=env, capture_output=True, text=True, timeout=240)
    sprung = trap / "sprung"
    assert not sprung.exists(), sprung.read_text()
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_module_of_the_working_directory_is_run(trap: Path, project: Project) -> None:
    artifact = next(Path(item["path"]) for item in project.artifacts.values())
    require_untouched(trap, *EDGEQ, "run", str(artifact), "a cat sat")
    check = ["check", str(project.recipe), "--device", "here", "--artifact", "onnx-int8-dynamic"]
    require_untouched(trap, *EDGEQ, *check, store=project.store)


def test_no_module_of_the_working_directory_is_run_by_load(trap: Path, tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact")
    assert require_untouched(trap, sys.executable, *LOAD, str(artifact)) == "True\n"


def test_no_module_of_the_working_directory_is_run_by_an_audit(trap: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from tests.support.gguf_artifacts import WREN, write_file

    file = str(write_file(WREN, tmp_path / "wren.gguf", "Q8_0"))
    found = json.loads(require_untouched(trap, *EDGEQ, "audit", file, "--json"))
    assert "llama.cpp" in json.dumps(found)


def test_python_m_edgeq_does_not_search_the_working_directory(trap: Path) -> None:
    for name in ("edgeq", "typing", "pathlib"):  # found by Python itself, before edgeq runs
        (trap / f"{name}.py").unlink()
    require_untouched(trap, sys.executable, "-m", "edgeq", "devices")


def test_children_see_the_packages_of_their_parent(tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "only_here.py").write_text("print('found', __name__)\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "extra")}
    command = [sys.executable, "-c", RUN, "only_here"]
    said = subprocess.check_output(command, cwd=tmp_path, env=env, text=True)
    assert said == "found __main__\n"


@linux
def test_a_process_is_killed_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(
        "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "sleeper"], stdout=subprocess.PIPE, env=env, text=True
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) > 0
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout.read() == ""  # the child held the other end, and let go of it
    process.stdout.close()


@linux
@pytest.mark.parametrize("name", ["load", "audit", "run", "check"])
def test_children_of_every_command_are_killed_with_it(
    name: str, project: Project, tmp_path: Path
) -> None:
    family = Family(_command(name, project, tmp_path), tmp_path, **_own_places(tmp_path))
    while not family.others() and family.parent.poll() is None:
        time.sleep(0.005)
    assert family.parent.poll() is None, "it started no process"
    assert family.kill_parent() == []


def _own_places(folder: Path) -> dict[str, str]:
    return {"EDGEQ_STORE": str(folder / "store"), "EDGEQ_CACHE": str(folder / "cache")}


def _command(name: str, project: Project, folder: Path) -> list[str]:
    if name == "load":
        return [sys.executable, *LOAD, str(samples.tensor_artifact(folder / "artifact"))]
    if name == "check":
        shutil.copytree(project.store, folder / "store")
        return [*EDGEQ, "check", str(project.recipe), "--device", "here"]
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from tests.support.gguf_artifacts import WREN, write_file

    file = str(write_file(WREN, folder / "wren.gguf", "Q8_0"))
    return [*EDGEQ, *(["run", file, "--prompt", "It"] if name == "run" else ["audit", file])]


@linux
def test_a_process_whose_parent_has_ended_does_not_begin(tmp_path: Path) -> None:
    command = child.command("this")
    orphan = [word.replace(str(os.getpid()), "1") for word in command]
    done = subprocess.run(orphan, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
