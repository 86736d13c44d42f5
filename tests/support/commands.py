"""The real command, and what it answered: JSON, text for a person, or a refusal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

Done = subprocess.CompletedProcess[str]
COMMAND = (sys.executable, "-c", "from edgeq.cli.main import main; main()")
"""The real command in a process of its own, which it takes a second to start."""


def run_edgeq(*arguments: str | Path, store: Path, cwd: Path, **environment: str) -> Done:
    """The real command in this process, with `store` as its build store.

    It has a directory, environment and standard streams of its own, which its children share.
    """
    from edgeq.cli.main import main

    assert not any(name.startswith("PYTHON") for name in environment), "read at the start alone"
    words = ["edgeq", *map(str, arguments)]
    variables = {**os.environ, "EDGEQ_STORE": str(store), **environment}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with _apart(cwd, variables, words), _written_to(output, errors):
            try:
                main()
            except SystemExit as end:
                status = end.code
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read().decode())
    assert isinstance(status, int)
    return Done(words, status, *said)


def start_edgeq(*arguments: str | Path, store: Path, cwd: Path, **environment: str) -> Done:
    """The same in a process of its own, which reads Python's variables and imports everything."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "EDGEQ_STORE": str(store), **environment},
        capture_output=True,
        text=True,
    )


@contextlib.contextmanager
def _apart(cwd: Path, variables: dict[str, str], words: list[str]) -> Iterator[None]:
    """This process in another directory, with other variables and arguments."""
    before = Path.cwd(), dict(os.environ), sys.argv
    names = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))
    handlers = {number: signal.getsignal(number) for number in names if number is not None}
    os.chdir(cwd)
    os.environ.update(variables)
    sys.argv = words
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.argv = before[2]
        os.environ.clear()
        os.environ.update(before[1])
        os.chdir(before[0])


@contextlib.contextmanager
def _written_to(output: IO[bytes], errors: IO[bytes]) -> Iterator[None]:
    """Files as standard output and error, for children and C code, too."""
    before = sys.stdout, sys.stderr
    descriptors = [os.dup(1), os.dup(2)]
    for file, number in ((output, 1), (errors, 2)):
        before[number - 1].flush()
        os.dup2(file.fileno(), number)
    try:
        with (
            open(1, "w", encoding="utf-8", closefd=False) as sys.stdout,
            open(2, "w", encoding="utf-8", closefd=False) as sys.stderr,
        ):
            yield
    finally:
        sys.stdout, sys.stderr = before
        for number, descriptor in enumerate(descriptors, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def answered(done: Done, status: int = 0) -> Any:
    """The JSON a command printed; nothing but JSON may be on standard output."""
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def for_a_person(done: Done, status: int = 0) -> str:
    """What a command printed: no colour codes, and no line of a table beyond 80 columns."""
    assert done.returncode == status, done.stderr[-2000:]
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    long = [line for line in done.stdout.splitlines() if len(line) > 80]
    assert not [line for line in long if "/" not in line]  # a path must not be broken
    return done.stdout


def refused(done: Done, status: int) -> str:
    """What a command said on standard error; standard output stays empty."""
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    # What takes over ten seconds is told line by line, and a busy machine makes everything slow.
    told = re.sub(r"^ +\d+ s  .*\n", "", done.stderr, flags=re.MULTILINE)
    assert told.startswith("error: ")
    return told
