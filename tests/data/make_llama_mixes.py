"""Records which types llama.cpp's quantizer gives the tensors of `tests/mix_cases.py`.

    EDGEQ_LLAMA_CPP_PYTHON=<an interpreter with llama-cpp-python> python -m tests.data.make_llama_mixes

Writes `llama_mixes.json` beside this file. Each answer is a text with one letter for each tensor,
in the order of the case; `types` says which type a letter stands for. `refused` is what llama.cpp
said where it made no file.
"""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.gguf.header import read_header
from edgeq.gguf.mixes import MIXES
from edgeq.gguf.types import TYPES
from tests.mix_cases import CASES, Case, ask, interpreter, job

LETTERS = dict(zip(TYPES, string.ascii_letters, strict=False))


def answers(python: str, case: Case, folder: Path) -> dict[str, dict[str, str]]:
    """Types by mix, without importance and with it."""
    source = case.write(folder / "source.gguf")
    np.savez(folder / "importance.npz", **case.importance(0))
    jobs: dict[tuple[str, str], dict[str, Any]] = {}
    for mix in MIXES:
        for way in ("without", "with"):
            more = {"importance": str(folder / "importance.npz")} if way == "with" else {}
            jobs[mix, way] = job(source, folder / f"{mix}-{way}.gguf", mix, threads=2, **more)
    found: dict[str, dict[str, str]] = {"without": {}, "with": {}, "refused": {}}
    for (mix, way), done in zip(jobs, ask(python, list(jobs.values())), strict=True):
        if done["failure"]:
            found["refused"][f"{mix} {way}"] = done["failure"].rpartition(": ")[2][:80]
            continue
        header = read_header(folder / f"{mix}-{way}.gguf")
        kinds = [header.tensors[name].type.name for name, _ in case.tensors]
        found[way][mix] = "".join(LETTERS[kind] for kind in kinds)
        header.path.unlink()
    return found


def main() -> None:
    """Ask for every case."""
    python = interpreter()
    if python is None:
        raise SystemExit("no interpreter with llama-cpp-python: see above")
    recorded: dict[str, Any] = {"types": {v: k for k, v in LETTERS.items()}, "cases": {}}
    for name, case in CASES.items():
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            recorded["cases"][name] = answers(python, case, Path(folder))
    path = Path(__file__).with_name("llama_mixes.json")
    path.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
