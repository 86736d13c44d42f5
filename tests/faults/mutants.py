"""Mutated files, read in a process that may be ended by them: what became of each.

python -m tests.faults.mutants KIND SEED…
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgeq.cli.exit import run as run_command
from edgeq.core.child import limit_memory
from tests.faults.campaign import Campaign, Run
from tests.faults.files import KINDS, Believed

MOST_SECONDS = 20
"""Of the processors, by this process and its children: a busy machine must not break a run."""
LONGEST_SECONDS = 120
"""By the clock."""
MOST_MEMORY = 1 << 30
STATUSES = (0, 2, 3, 4)
_WHOSE = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
_ROOT = Path(__file__).parents[2]


def campaigns() -> list[Campaign]:
    """One for each kind of file."""
    counts = {"GGUF files, loaded": (0, 1000), "messages of a device": (8, 400)}
    counts |= {"crafted bundles": (42, 126), "flipped bits in bundles": (40, 1000)}
    counts |= {"ONNX graphs": (30, 1000), "GGUF sources": (8, 1000)}
    counts |= {"GGUF sources of other architectures": (4, 1000)}
    return [
        Campaign(
            name if name.startswith(("flipped", "crafted")) else f"mutated {name}",
            "refused" if "bundles" in name else "read or refused by name",
            functools.partial(run_mutants, name),
            *counts.get(name, (60, 1000)),
        )
        for name in KINDS
    ]


def run_mutants(name: str, seeds: Iterable[int], folder: Path) -> Iterator[Run]:
    """What becomes of the mutants of a kind; one that ends its process is told by its signal."""
    left = list(seeds)
    while left:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            process = _start(name, left, Path(place))
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    run = Run(**json.loads(line))
                    assert run.seed == left.pop(0)
                    yield run
                status = process.wait()
            finally:  # also where nobody asks for more
                process.kill()
                process.wait()
                process.stdout.close()
        if left:
            yield Run(left.pop(0), f"its process ended with {status}", 0.0)


def _start(name: str, seeds: list[int], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.mutants", name, *map(str, seeds[:2000])]
    env = {**os.environ, "TMPDIR": str(folder), "EDGEQ_CACHE": str(folder / "cache")}
    errors = subprocess.DEVNULL
    return subprocess.Popen(
        command, cwd=_ROOT, env=env, stdout=subprocess.PIPE, stderr=errors, text=True
    )


def main(name: str, *seeds: str) -> None:
    """Read the mutants of these seeds; a line of JSON each."""
    kind, folder = KINDS[name], Path(tempfile.gettempdir(), "mutants")
    (folder / "read").mkdir(parents=True)
    mutants = kind.mutants(folder)
    path = folder / "read" / kind.name
    limit_memory(_memory() + MOST_MEMORY)
    for seed in map(int, seeds):
        path.write_bytes(mutants(seed))
        before, begun = _memory(), _cpu_seconds()
        broken = _read(kind.read, path)
        seconds = _cpu_seconds() - begun
        if _memory() - before > MOST_MEMORY:
            broken = broken or "takes more than 1 GiB"
        if seconds > MOST_SECONDS:
            broken = broken or f"takes {seconds:.0f} s"
        print(json.dumps({"seed": seed, "broken": broken, "seconds": seconds}), flush=True)


class _TooLate(BaseException):
    pass


def _too_late(*_: object) -> None:
    raise _TooLate


def _read(read: Any, path: Path) -> str:
    """What is wrong with how it ended; empty if it was read, or refused as a command refuses it."""

    def command(*_: object, **__: object) -> None:
        try:
            read(path)
        except MemoryError:
            raise RuntimeError("takes more than 1 GiB") from None

    said = io.StringIO()
    before = signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(LONGEST_SECONDS)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            status = run_command(command, [])
    except _TooLate:
        return f"takes more than {LONGEST_SECONDS} s"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if status in STATUSES:
        return ""
    if Believed.__name__ in said.getvalue():
        return "was taken for a sound one"
    return f"status {status}: {' '.join(said.getvalue().split())[:300]}"


def _memory() -> int:
    """The most that this process, or a child that ended, had at a time."""
    return 1024 * max(resource.getrusage(whose).ru_maxrss for whose in _WHOSE)


def _cpu_seconds() -> float:
    used = map(resource.getrusage, _WHOSE)
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main(*sys.argv[1:])
