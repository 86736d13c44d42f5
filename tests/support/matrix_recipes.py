"""A recipe for the tests of the matrix: a small net, in one artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support import onnx_models

DATA = "images.npz"


def write_recipe(folder: Path, name: str = "small", devices: str = "x86-laptop-8gb") -> Path:
    """The recipe, with its model and its data beside it, in `folder`."""
    onnx_models.convolutional(folder / "net.onnx")
    rng = np.random.default_rng(0)
    np.savez(folder / DATA, image=rng.standard_normal((24, 3, 32, 32)).astype(np.float32))
    np.savez(folder / "other.npz", image=rng.standard_normal((24, 3, 32, 32)).astype(np.float32))
    path = folder / f"{name}.yaml"
    path.write_text(
        f"""
edgeq: 1
name: {name}
model: {{source: net.onnx, task: tensor}}
data: {{calibration: {{path: other.npz}}, evaluation: {{path: {DATA}}}}}
quantize: {{default: [int8-static]}}
targets:
  - {{format: onnx, devices: [{devices}]}}
budgets: {{size: {{download: 8 MiB}}, quality: {{error: 0.2}}}}
""",
        encoding="utf-8",
    )
    return path
