"""Records which types llama.cpp's quantizer gives the tensors of `tests/mix_cases.py`.

    EDGEQ_LLAMA_CPP_PYTHON=<interpreter with llama-cpp-python> python -m tests.data.make_llama_mixes

Writes `llama_mixes.json` beside this file. Each answer is a text with one letter for each tensor,
in the order of the case; `types` says which type a letter stands for. What is missing under `with`
is as under `without`. `refused` is what llama.cpp said where it made no file.
"""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.formats.gguf.header import read_header
from edgeq.quantize.ggml.mixes import MIXES
from edgeq.quantize.ggml.types import TYPES
from tests.support.mix_cases import CASES, Case, ask, interpreter, job

LETTERS = dict(zip(TYPES, string.ascii_letters, strict=False))


WAYS = ("without", "with")


def main() -> None:
    """Ask for every case, mix and way, in one process: its tables for some types take long."""
    python = interpreter()
    if python is None:
        raise SystemExit("no interpreter with llama-cpp-python: see above")
    recorded: dict[str, Any] = {"types": {v: k for k, v in LETTERS.items()}, "cases": {}}
    with tempfile.TemporaryDirectory() as folder:
        wanted = [(case, mix, way) for case in CASES.values() for mix in MIXES for way in WAYS]
        for case in CASES.values():
            case.write(Path(folder, f"{case.name}.gguf"))
            importance: dict[str, Any] = dict(case.importance(0))
            np.savez(Path(folder, f"{case.name}.npz"), **importance)
        jobs = [_job(Path(folder), *item) for item in wanted]
        for (case, mix, way), task, done in zip(wanted, jobs, ask(python, jobs), strict=True):
            empty: dict[str, dict[str, str]] = {"without": {}, "with": {}, "refused": {}}
            found = recorded["cases"].setdefault(case.name, empty)
            if done["failure"]:
                found["refused"][f"{mix} {way}"] = done["failure"].rpartition(": ")[2][:80]
                continue
            letters = _letters(case, Path(task["destination"]))
            if way == "without" or found["without"].get(mix) != letters:
                found[way][mix] = letters
    path = Path(__file__).with_name("llama_mixes.json")
    path.write_text(json.dumps(recorded, indent=1) + "\n")


def _job(folder: Path, case: Case, mix: str, way: str) -> dict[str, Any]:
    more = {"importance": str(folder / f"{case.name}.npz")} if way == "with" else {}
    destination = folder / f"{case.name}-{mix}-{way}.gguf"
    return job(folder / f"{case.name}.gguf", destination, mix, threads=1, **more)


def _letters(case: Case, path: Path) -> str:
    header = read_header(path)
    return "".join(LETTERS[header.tensors[name].type.name] for name, _ in case.tensors)


if __name__ == "__main__":
    main()
