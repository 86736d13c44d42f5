"""A measuring process does not outlive the one that waits for it, however that ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from edgeq.core.parent import PARENT

CHILD = "from edgeq.core.parent import end_with_parent; end_with_parent(); "


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends a process with its parent")
def test_a_process_is_killed_with_its_parent() -> None:
    child = f"import os, time; {CHILD} print(os.getpid(), flush=True); time.sleep(60)"
    parent = (
        "import os, subprocess, sys; "
        f"os.environ[{PARENT!r}] = str(os.getpid()); "
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) > 0
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout.read() == ""  # the child held the other end, and let go of it
    process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends a process with its parent")
def test_a_process_whose_parent_had_ended_does_not_begin() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{CHILD} print('begun')"],
        env={**os.environ, PARENT: "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    free = subprocess.run(
        [sys.executable, "-c", f"{CHILD} import os; print(os.environ.get({PARENT!r}))"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert free.stdout == "None\n"
