"""A recipe for several file formats, of which one cannot hold the model: the others are made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("gguf", reason="the GGUF side is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.core.store import Store
from edgeq.pipeline.build.build import Partly, build
from edgeq.pipeline.plan.plan import make_plan
from tests.support import tiny_bert, tiny_decoders
from tests.support.commands import run_edgeq

RECIPE = """\
edgeq: 1
name: two
model: {{source: model, task: text-generation}}
quantize: {{default: [{chosen}]}}
workload: {{context: 128, prompt: 16, generate: 16}}
targets: [{targets}]
"""
ONNX, GGUF = "{format: onnx, devices: [here]}", "{format: gguf, devices: [here]}"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with another activation, which llama.cpp does not have, for ONNX and GGUF."""
    folder = tmp_path_factory.mktemp("two")
    tiny_decoders.make(folder / "model", "llama", hidden_act="gelu_pytorch_tanh")
    return written(folder, f"{ONNX}, {GGUF}")


def written(
    folder: Path, targets: str, chosen: str = "int8-b32, {weights: int4-b32, method: nearest}"
) -> Path:
    text = RECIPE.format(targets=targets, chosen=chosen)
    return tiny_bert.write_recipe(folder / f"{len(targets)}.yaml", text)


def test_the_plan_names_the_format_and_shows_the_others(recipe: Path, tmp_path: Path) -> None:
    done = run_edgeq("plan", recipe, store=tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "onnx-int8-b32: " in done.stdout and "MiB to download" in done.stdout
    assert "gguf-int8-b32: cannot be built" in done.stdout
    assert done.stderr.count("llama.cpp cannot run this llama model") == 1
    assert "remove the target 'format: gguf'" in done.stderr
    told = json.loads(run_edgeq("plan", recipe, "--json", store=tmp_path, cwd=tmp_path).stdout)
    assert told["exit_status"] == 2
    assert set(told["estimates"]) == {"onnx-int8-b32", "onnx-int4-b32-nearest"}


def test_what_is_possible_is_built(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(Partly, match=r"llama\.cpp cannot run") as refused:
        build(make_plan(recipe, weights=True), Store(tmp_path), lambda line: None)
    assert [built.artifact.name for built in refused.value.done] == [
        "onnx-int8-b32",
        "onnx-int4-b32-nearest",
    ]


def test_a_recipe_for_that_format_alone_is_refused_at_once(recipe: Path) -> None:
    with pytest.raises(InvalidInput, match=r"llama\.cpp cannot run this llama model"):
        make_plan(written(recipe.parent, GGUF))


def test_a_context_that_was_not_trained_says_what_fits(recipe: Path) -> None:
    model = recipe.parent / "short"
    tiny_decoders.make(model, "llama", max_position_embeddings=64)
    text = RECIPE.format(targets=ONNX, chosen="int8-b32").replace("source: model", "source: short")
    longer = tiny_bert.write_recipe(recipe.parent / "longer.yaml", text)
    with pytest.raises(InvalidInput, match=r"trained for only 64\n.*'context: 64' or less$"):
        make_plan(longer)
    longer.write_text(text.replace("prompt: 16", "prompt: 112"))
    remedy = "'context: 64' or less, with 'prompt' and 'generate' of at most 64 tokens together"
    with pytest.raises(InvalidInput, match=remedy):
        make_plan(longer)
