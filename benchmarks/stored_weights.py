"""What weights that are stored in codes, and expanded when a file is opened, cost and save.

    python benchmarks/stored_weights.py MODEL.onnx [ROUNDS]

MODEL.onnx: of arrays. It is built as float32, int8-stored and int4-stored, and each is opened and
run in fresh processes in turns: seconds of `edgeq.load` and of a run, and what both add to the
process's resident set, at its peak and in the end. The first load is apart: it writes the prepared
copy that later ones map.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

VARIANTS = ("float32", "int8-stored", "int4-stored")
RECIPE = """\
edgeq: 1
name: stored
model: {{source: "{model}", task: tensor}}
quantize: {{default: [{variants}]}}
targets: [{{format: onnx, devices: [here]}}]
"""
_OPEN = """
import sys, time
import onnxruntime
import edgeq
import edgeq.formats.onnx.model
from edgeq.formats.timed_feed import made_up

def resident(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024

before = resident("VmRSS:")
open("/proc/self/clear_refs", "w").write("5")  # the peak starts here
clock = time.perf_counter()
model = edgeq.load(sys.argv[1], threads=1)
loaded = time.perf_counter()
feed = made_up(model.artifact.inputs)
model.run(feed)
ran = time.perf_counter()
model.run(feed)
again = time.perf_counter()
print(loaded - clock, ran - loaded, again - ran, resident("VmHWM:") - before,
      resident("VmRSS:") - before)
"""
COLUMNS = ("later, s", "first run, s", "run, s", "peak, MiB", "resident, MiB")


def built(model: Path, folder: Path, environment: dict[str, str]) -> dict[str, tuple[Path, int]]:
    """Folder and bytes of each variant of the model."""
    recipe = folder / "recipe.yaml"
    text = RECIPE.format(model=model.resolve(), variants=", ".join(VARIANTS))
    recipe.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "edgeq", "build", str(recipe), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    found = json.loads(done.stdout)["artifacts"]
    return {item["variant"]: (Path(item["path"]), int(item["bytes"])) for item in found}


def opened(artifact: Path, environment: dict[str, str]) -> list[float]:
    """One fresh process's figures, in the order of `COLUMNS`."""
    command = [sys.executable, "-c", _OPEN, str(artifact)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return [float(word) for word in done.stdout.split()]


def main(model: Path, rounds: int) -> None:
    """Print a line of medians for each variant."""
    with tempfile.TemporaryDirectory() as folder:
        own = {"EDGEQ_STORE": f"{folder}/store", "EDGEQ_CACHE": f"{folder}/cache"}
        environment = {**os.environ, **own}
        found = built(model, Path(folder), environment)
        environment |= {"EDGEQ_CACHE": f"{folder}/fresh"}  # without the copy that the build wrote
        taken: dict[str, list[list[float]]] = {name: [] for name in found}
        for _ in range(rounds + 1):
            for name, (path, _) in found.items():
                taken[name].append(opened(path, environment))
    print(f"| stored as | MB | first load, s | its peak, MiB | {' | '.join(COLUMNS)} |")
    for name, (_, size) in found.items():
        first, *others = taken[name]  # the first writes the loader's prepared copy
        medians = [statistics.median(column) for column in zip(*others, strict=True)]
        figures = (first[0], first[3], *medians)
        print(f"| {name} | {size / 1e6:.1f} | {' | '.join(f'{f:.3g}' for f in figures)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7)
