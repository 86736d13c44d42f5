"""Run a new file once in a separate process: where Apple's runtime aborts, it ends its process."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeq.core import child
from edgeq.core.errors import EdgeqError, InvalidInput, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.formats.base import Array
from edgeq.formats.coreai.runtime import Runtime

_SECONDS = 900.0
_FEEDS, _ANSWERS = "feeds.npz", "answers.npz"
_REMEDY = "target another format; or report it with this line"


def answers_of(asset: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every output of a model for one sample; its states are empty.

    Raises InvalidInput if it cannot be opened or run, or its process is killed.
    """
    if not child.can_start():
        return _run(asset, feeds)
    with TemporaryFolder() as folder:
        _save(Path(folder, _FEEDS), feeds)
        command = child.command(__name__, str(asset), str(folder))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            what = f"does not answer within {_SECONDS:.0f} s"
            raise InvalidInput(Problem(str(asset), what, _REMEDY)) from None
        if done.returncode < 0:
            name, said = signal.Signals(-done.returncode).name, done.stderr.strip().splitlines()
            what = f"Core AI's runtime is killed by {name} on it: {said[-1] if said else ''}"
            raise InvalidInput(Problem(str(asset), what, _REMEDY))
        if done.returncode:
            raise InvalidInput([Problem(**each) for each in json.loads(done.stdout)])
        with np.load(Path(folder, _ANSWERS), allow_pickle=False) as found:
            return dict(found)


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    np.savez(path, **dict(arrays))  # type: ignore[arg-type]


def _run(asset: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    model = Runtime(asset)
    states = {name: np.zeros(shape, np.float16) for name, shape in model.states().items()}
    return model.run(feeds, states)


def main(asset: str, folder: str) -> int:
    """Answer the feeds in a folder; returns the exit status. Problems go to standard output."""
    with np.load(Path(folder, _FEEDS), allow_pickle=False) as feeds:
        try:
            found = _run(Path(asset), dict(feeds))
        except EdgeqError as error:
            print(json.dumps([dataclasses.asdict(problem) for problem in error.problems]))
            return error.exit_code
    _save(Path(folder, _ANSWERS), found)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
