"""Where a recipe may ask for learned rounding. No torch is needed to plan."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgeq.core.errors import Problem
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.plan.requirements import packages
from edgeq.recipe.load import load_recipe

WREN = Path(__file__).parents[2] / "recipes" / "wren"
TEXT = """\
edgeq: 1
name: a
model: {{source: {model}, task: {task}}}
data: {{calibration: {{path: {data}}}}}
quantize: {quantize}
targets: [{{format: {format}, devices: [here]}}]
"""


def write(folder: Path, quantize: str, format: str = "gguf") -> Path:
    (folder / "calibration.txt").write_text("a text\nanother\n")
    path = folder / "recipe.yaml"
    given = {"model": WREN, "task": "text-generation", "data": "calibration.txt"}
    path.write_text(TEXT.format(quantize=quantize, format=format, **given))
    return path


def problems(path: Path) -> list[Problem]:
    return load_recipe(path)[2]


@pytest.mark.parametrize(
    ("quantize", "name"),
    [
        ("{default: {weights: Q3_K_M, method: learned}}", "gguf-Q3_K_M-learned"),
        ("{default: {weights: int4-b32, method: learned}}", "gguf-int4-b32-learned"),
        ("{fit: {size: 3 MiB, method: learned}}", "gguf-fit-3mib-learned"),
    ],
)
def test_learned_variants_have_names_and_need_torch(
    tmp_path: Path, quantize: str, name: str
) -> None:
    path = write(tmp_path, quantize)
    assert not problems(path)
    planned = make_plan(path)
    assert [artifact.name for artifact in planned.plan.artifacts] == [name]
    spec = planned.recipe.quantize
    intents = [*spec.intents("gguf", "text-generation"), *spec.pending("gguf", "text-generation")]
    assert {"torch", "transformers"} <= set(packages(intents)["recover"])


def test_one_scale_per_row_is_refused_by_name(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path, "{default: {weights: int8, method: learned}}", "onnx"))
    assert "'int8' are not rounded by the method 'learned'" in problem.what
    assert "gptq" in (problem.remedy or "")


def test_an_onnx_file_has_no_layers_to_train(tmp_path: Path) -> None:
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), tmp_path / "m.onnx")
    path = tmp_path / "recipe.yaml"
    quantize = "{default: {weights: int4-b32, method: learned}}"
    given = {"model": "m.onnx", "task": "tensor", "data": "a.npz", "format": "onnx"}
    path.write_text(TEXT.format(quantize=quantize, **given))
    found = [each for each in problems(path) if "learned" in each.what]
    assert len(found) == 1 and "an .onnx file has none" in found[0].what
    assert found[0].remedy == "write 'method: gptq'"
