"""A file format is a target only for tasks that its runtime knows."""

from __future__ import annotations

from pathlib import Path

from edgeq.recipe.load import load_recipe
from tests.support.tiny_bert import write_recipe

ARRAYS = """\
edgeq: 1
name: arrays
model: {source: model.onnx, task: tensor}
quantize: {default: int8-b32}
targets:
  - {format: onnx, devices: [here]}
  - {format: gguf, devices: [here]}
"""


def test_arrays_have_no_runtime_for_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    *_, problems = load_recipe(write_recipe(tmp_path / "arrays.yaml", ARRAYS))
    (problem,) = problems
    assert problem.where.endswith("arrays.yaml:7:14")
    assert problem.what == "targets[1].format: no runtime for GGUF files supports 'tensor'"
    assert problem.remedy == "choose one of: onnx, coreml, coreai"
