"""Recipes of language models: what goes with them, and what is told where something does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.core.errors import Problem
from edgeq.recipe.load import load_recipe

GOOD = """\
edgeq: 1
name: tiny
model: {source: ./model, task: text-generation}
data:
  calibration: {path: calibration.txt, samples: 4}
  evaluation: {path: evaluation.txt}
quantize:
  default: [int8, int4, Q4_K_M]
  rules:
    - {match: "*.embed_tokens.weight", use: Q6_K, variants: [Q4_K_M]}
targets:
  - {format: gguf, devices: [here]}
  - {format: onnx, devices: [here]}
workload: {context: 512, prompt: 128, generate: 32}
budgets:
  latency: {first_token: 1 s}
  speed: {generation: 20 tok/s}
  quality: {kl: 0.02, kl_p99: 0.2, top1: 90 %, perplexity: 1.02}
"""


def problems_of(folder: Path, text: str) -> list[Problem]:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "calibration.txt").write_text(
        "Chapter One\nA text of nine words that comes here first.\n"
    )
    (folder / "evaluation.txt").write_text(
        "Chapter One\nAnother text, as long as it has to be here.\n"
    )
    path = folder / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path)[2]


def test_a_complete_recipe_has_no_problem(tmp_path: Path) -> None:
    assert problems_of(tmp_path, GOOD) == []


def test_each_format_gets_the_variants_it_can_hold(tmp_path: Path) -> None:
    problems_of(tmp_path, GOOD)
    recipe = load_recipe(tmp_path / "recipe.yaml")[0]
    assert recipe is not None
    names = {
        format: [i.variant.name for i in recipe.quantize.intents(format, "text-generation")]
        for format in ("gguf", "onnx")
    }
    assert names == {"gguf": ["int8-b32", "int4-b32", "Q4_K_M"], "onnx": ["int8-b32", "int4-b32"]}


@pytest.mark.parametrize(
    ("old", "new", "what", "remedy"),
    [
        (
            "  - {format: gguf, devices: [here]}\n",
            "",
            "no target can store it",
            "add a target: {format: gguf",
        ),
        (", variants: [Q4_K_M]", "", "onnx-int8-b32 cannot store 'Q6_K'", "variants: [Q4_K_M]"),
        ("Q4_K_M]\n", "Q4_KM]\n", "Q4_KM", "Q4_K_M"),
        ("use: Q6_K", "use: Q6_k", "Q6_k", "Q6_K"),
        ("[int8,", "[int8-dynamic,", "quantizes activations", "int8-b32"),
        ("first_token: 1 s", "p90: 1 s", "is not measured for the task", "first_token"),
        ("20 tok/s", "20", "has no unit", "20 tok/s"),
        ("20 tok/s", "20 t/s", "'t/s' is not a known unit", "tok/s"),
        ("kl: 0.02", "cosine: 0.9", "is not measured for the task", "kl"),
        ("context: 512", "context: 100", "do not fit 100", "context: 160"),
        ("context: 512,", "context: 512, kv: q8_0,", "ONNX has no KV cache in q8_0", "kv: auto"),
        ("context: 512,", "context: 512, kv: f16,", "ONNX has no KV cache in f16", "kv: f32"),
        ("  calibration: {path: calibration.txt, samples: 4}\n", "", "there are none", "nearest"),
        ("evaluation.txt", "calibration.txt", "are in the calibration data too", "unseen"),
        ("./model", "./model.onnx", "has no tokenizer", "directory"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(
    tmp_path: Path, old: str, new: str, what: str, remedy: str
) -> None:
    assert old in GOOD
    told = problems_of(tmp_path, GOOD.replace(old, new, 1))
    assert any(what in problem.what and remedy in problem.remedy for problem in told), told


def test_headings_may_come_again_but_no_passage(tmp_path: Path) -> None:
    """Two books share "Chapter One"; a passage they do not, however its lines are broken."""
    assert problems_of(tmp_path, GOOD) == []
    words = [f"word{i}" for i in range(40)]
    (tmp_path / "calibration.txt").write_text("Chapter One\n" + "\n".join(words[:30]))
    evaluation = tmp_path / "evaluation.txt"
    evaluation.write_text("Chapter One\n" + " ".join(words[18:]).upper())
    assert load_recipe(tmp_path / "recipe.yaml")[2] == []  # 12 words
    evaluation.write_text("Chapter One\n" + " ".join(words[16:]).upper())
    (problem,) = load_recipe(tmp_path / "recipe.yaml")[2]
    assert "2 of its passages" in problem.what
