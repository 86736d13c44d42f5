"""A model through edgeq's command line: plan, build, check, bundle, and load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from edgeq.measure.cross_cpu.records import VARIABLE

COMMANDS = (("plan",), ("build", "--json"), ("check",), ("bundle", "--out", "x.zip"))


def by_edgeq(own: Path, folder: Path) -> tuple[list[str], dict[str, Path | str]]:
    """What the command line answered, and the artifacts' model files or why there is none."""
    (own / "x.zip").unlink(missing_ok=True)
    steps: list[str] = []
    built: dict[str, Path | str] = {}
    for command, *more in COMMANDS:
        begin = time.perf_counter()
        done = edgeq(command, "recipe.yaml", *more, own=own, folder=folder)
        steps.append(f"{command}: status {done.returncode}, {time.perf_counter() - begin:.0f} s")
        (own / f"{command}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        if command == "build":
            built = artifacts(done.stdout)
    if (own / "x.zip").exists():
        steps.append(f"load: {loaded(own)}")
    return steps, built


def artifacts(printed: str) -> dict[str, Path | str]:
    """The artifacts that a build printed, by variant."""
    try:
        found = json.loads(printed).get("artifacts", [])
    except ValueError:
        return {}
    return {
        f"edgeq, {item['name'].removeprefix('onnx-')}": Path(item["path"], "model.onnx")
        for item in found
    }


def formats_in(log: Path) -> dict[str, int]:
    """The bytes of each number format of the artifact that a build printed into `log`."""
    try:
        printed, _ = json.JSONDecoder().raw_decode(log.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found: dict[str, int] = (
        printed["artifacts"][0]["number_formats"] if printed["artifacts"] else {}
    )
    return found


def edgeq(*arguments: str, own: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the model's folder, with a store and a cache of the zoo's own.

    Answers on other CPU classes are compared only if the environment asks for it: that is the
    longest part by far.
    """
    kept = {f"EDGEQ_{name.upper()}": str(folder.absolute() / name) for name in ("store", "cache")}
    command = [sys.executable, "-m", "edgeq", *arguments]
    environment = {VARIABLE: "none", **os.environ, **kept}
    return subprocess.run(command, cwd=own, env=environment, capture_output=True, text=True)


def loaded(own: Path) -> str:
    """Open the bundle as an app does."""
    code = "import edgeq; edgeq.load('x.zip')"
    done = subprocess.run([sys.executable, "-c", code], cwd=own, capture_output=True, text=True)
    return "opened" if done.returncode == 0 else done.stderr.strip().splitlines()[-1][:120]
