"""AWQ and importance from recipe to file: what is recorded, what runs, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")
pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

from edgeq.core.artifact import read_artifact
from edgeq.core.errors import InvalidInput
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.compare.compare import compare, open_language_model
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import build_recipe
from tests.support import tiny_decoders

RECIPE = """\
edgeq: 1
name: tiny
model: {{source: ./tiny, task: text-generation}}
data:
  calibration: {{path: calibration.txt}}
quantize:
  default: {default}
targets: [{{format: {format}, devices: [here]}}]
workload: {{context: 64, prompt: 32, generate: 8}}
"""
ALL = """[
  {weights: int4-b32, method: awq},
  {weights: int4-b32, method: importance},
  {weights: int4-b32, method: nearest},
]"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("awq")
    tiny_decoders.make(path / "tiny", "smollm2", num_hidden_layers=2)
    text = tiny_decoders.TEXT.read_text()
    (path / "calibration.txt").write_text(text[:5000])
    (path / "text.txt").write_text(text[50000:54000])
    return path


@pytest.fixture(scope="module")
def built(folder: Path) -> dict[str, Built]:
    (folder / "recipe.yaml").write_text(RECIPE.format(default=ALL, format="onnx"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(folder / "store"))
        found = build_recipe(folder / "recipe.yaml", None, lambda step: None)
    return {item.artifact.variant: item for item in found}


def test_the_record_names_what_was_folded(built: dict[str, Built]) -> None:
    record = read_artifact(built["int4-b32-awq"].path)
    methods = {name: tensor.method for name, tensor in record.tensors.items()}
    folded = {name for name, method in methods.items() if method == "awq"}
    assert folded
    assert all("layers" in name for name in folded)  # nothing takes a table's factors back
    assert {tensor.number_format for name, tensor in record.tensors.items() if name in folded} == {
        "int4-b32"
    }


def test_importance_is_a_method_of_our_own_number_format(built: dict[str, Built]) -> None:
    record = read_artifact(built["int4-b32-importance"].path)
    methods = {tensor.method for tensor in record.tensors.values()}
    assert "importance" in methods
    assert methods <= {"importance", "nearest", "none"}


def test_a_folded_file_is_no_larger_and_as_near(folder: Path, built: dict[str, Built]) -> None:
    plain, awq = (built[f"int4-b32-{method}"] for method in ("nearest", "awq"))
    assert awq.artifact.weight_bytes == plain.artifact.weight_bytes
    losses = [
        compare(folder / "tiny", each.path, folder / "text.txt", window=32, windows=4).kl
        for each in (plain, awq)
    ]
    assert losses[1].mean < losses[0].mean + 3 * losses[0].mean_se
    ids = list(range(2, 34))
    before, after = (open_language_model(each.path).logits(ids) for each in (plain, awq))
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("format", ["gguf", "coreml"])
def test_awq_is_for_onnx(folder: Path, format: str) -> None:
    text = RECIPE.format(default="{weights: int4-b32, method: awq}", format=format)
    path = folder / f"{format}.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="no target can store it"):
        make_plan(path)
