"""What a recipe may state as a budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.recipe.load import load_recipe
from edgeq.recipe.schema import Recipe

ROOT = Path(__file__).parents[2]
TEXT = """\
edgeq: 1
name: a
model: {{source: {model}, task: {task}}}
data: {{calibration: {{path: calibration.txt}}}}
quantize:
  fit: {fit}
targets: [{{format: gguf, devices: [here]}}]
"""


def problems(folder: Path, fit: str, task: str = "text-generation") -> list[str]:
    (folder / "calibration.txt").write_text("a text\nanother\n")
    path = folder / "recipe.yaml"
    path.write_text(TEXT.format(model=ROOT / "recipes" / "wren", task=task, fit=fit))
    return [problem.what for problem in load_recipe(path)[2]]


@pytest.mark.parametrize(
    ("fit", "name"),
    [
        ("{size: 4.2 MiB}", "fit-4.2mib"),
        ("{quality: {kl: 0.02}}", "fit-kl-0.02"),
        ("{memory: 64 MiB, speed: 20 tok/s}", "fit-memory-64mib-speed-20tps"),
        ("{latency: 40 ms, name: quick}", "quick"),
    ],
)
def test_a_budget_names_its_artifact(fit: str, name: str, tmp_path: Path) -> None:
    assert problems(tmp_path, fit) == []
    recipe, _, _ = load_recipe(tmp_path / "recipe.yaml")
    assert recipe is not None
    assert [intent.name for intent in recipe.quantize.pending("gguf", "text-generation")] == [
        f"gguf-{name}"
    ]
    assert Recipe.model_validate_json(recipe.model_dump_json(), strict=True) == recipe


@pytest.mark.parametrize(
    ("fit", "task", "what"),
    [
        ("{name: nothing}", "text-generation", "has no bounds"),
        ("[{size: 4 MiB}, {size: 4 MiB}]", "text-generation", "is listed twice"),
        ("{quality: {cosine: 0.9}}", "text-generation", "quality.cosine applies to encoders"),
        ("{quality: {kl: 0.1}}", "sentence-embedding", "quality.kl applies to language models"),
        ("{speed: 9 tok/s}", "sentence-embedding", "speed applies to language models"),
        ("{size: 4}", "text-generation", "has no unit"),
        ("[]", "text-generation", "the list is empty"),
    ],
)
def test_what_means_nothing_is_told(fit: str, task: str, what: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, fit, task)
    assert what in found


def test_something_must_be_asked_for(tmp_path: Path) -> None:
    problems(tmp_path, "{size: 4 MiB}")
    path = tmp_path / "recipe.yaml"
    path.write_text(path.read_text().replace("  fit: {size: 4 MiB}\n", "  rules: []\n"))
    _, _, found = load_recipe(path)
    assert [problem.what for problem in found] == ["quantize: has neither 'default' nor 'fit'"]


def test_without_calibration_data_nothing_can_be_measured(tmp_path: Path) -> None:
    problems(tmp_path, "{size: 4 MiB}")
    path = tmp_path / "recipe.yaml"
    text = path.read_text().replace("data: {calibration: {path: calibration.txt}}\n", "")
    path.write_text(text)
    _, _, found = load_recipe(path)
    assert ["there are none" in problem.what for problem in found] == [True]
