"""A recipe for the tests of the matrix: the smallest language model, in one artifact."""

from __future__ import annotations

from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"


def write_recipe(folder: Path, name: str = "small", devices: str = "x86-laptop-8gb") -> Path:
    """The recipe, with its evaluation data beside it, in `folder`."""
    text = (RECIPES / "data" / "wren-evaluation.txt").read_text(encoding="utf-8")
    (folder / "text.txt").write_text(text[:12000], encoding="utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(
        f"""
edgeq: 1
name: {name}
model: {{source: {RECIPES / "wren"}, task: text-generation, licence: apache-2.0}}
data: {{evaluation: {{path: text.txt, samples: 20}}}}
quantize: {{default: [int8]}}
targets:
  - {{format: gguf, devices: [{devices}]}}
workload: {{context: 128, prompt: 16, generate: 8}}
budgets: {{size: {{download: 8 MiB}}, quality: {{kl: 0.03}}}}
""",
        encoding="utf-8",
    )
    return path
