"""What the real command answered: JSON, text for a person, or a refusal."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

Done = subprocess.CompletedProcess[str]


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
