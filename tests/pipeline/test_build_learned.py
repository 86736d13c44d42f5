"""Learned rounding from recipe to file: what is recorded, and that formats share the codes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")
pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("optimum", reason="the build side is not installed")
pytest.importorskip("xllamacpp", reason="GGUF is not installed")

from edgeq.core.artifact import Artifact
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.pipeline.allocate import loss
from edgeq.pipeline.learn import stage, train
from edgeq.pipeline.workflow import build_recipe
from edgeq.quantize.number_formats import QuantizedTensor
from tests.support import tiny_decoders

DECODER = """\
edgeq: 1
name: tiny
model: {source: tiny, task: text-generation}
data: {calibration: {path: calibration.txt}}
quantize: {default: {weights: int4-b32, method: learned}}
targets: [{format: onnx, devices: [here]}, {format: gguf, devices: [here]}]
workload: {context: 64, prompt: 32, generate: 8}
"""


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_STEPS", (16, 16))


def built(
    folder: Path, recipe: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Artifact], list[str]]:
    """The artifacts, each opened and run once by its runtime, and what was said."""
    monkeypatch.setenv("EDGEQ_STORE", str(store))
    (folder / "recipe.yaml").write_text(recipe)
    said: list[str] = []
    found = build_recipe(folder / "recipe.yaml", None, said.append)
    return [item.artifact for item in found], said


def test_formats_share_what_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_decoders.make(tmp_path / "tiny", "smollm2", num_hidden_layers=1)
    (tmp_path / "calibration.txt").write_text(tiny_decoders.TEXT.read_text()[:5000])
    (onnx, gguf), said = built(tmp_path, DECODER, tmp_path / "store", monkeypatch)
    assert sum("before the first step" in line for line in said) == 1
    for artifact in (onnx, gguf):
        names = [
            name for name in artifact.tensors if name.endswith(("_proj.weight", "tokens.weight"))
        ]
        assert {artifact.tensors[name].method for name in names} == {"learned"}


def test_codes_that_are_worse_in_the_files_own_runtime_are_not_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training here takes its own word for it, and returns codes with every other sign turned."""
    tiny_decoders.make(tmp_path / "tiny", "smollm2", num_hidden_layers=1)
    (tmp_path / "calibration.txt").write_text(tiny_decoders.TEXT.read_text()[:5000])

    def worse(*arguments: Any) -> dict[str, QuantizedTensor]:
        start, trained = arguments[3:5]
        return {
            name: dataclasses.replace(tensor, codes=-tensor.codes, method="learned")
            if name in trained
            else tensor
            for name, tensor in start.items()
        }

    monkeypatch.setattr(stage, "learn", worse)
    (onnx, gguf), _ = built(tmp_path, DECODER, tmp_path / "store", monkeypatch)
    for artifact in (onnx, gguf):
        methods = {each.method for each in artifact.tensors.values()}
        assert "gptq" in methods and "learned" not in methods
        note = artifact.settings["notes"][-1]
        lost, kept = map(float, re.findall(r"(?:lose|training) (\d+\.\d+)", note))
        assert lost > kept
        assert note.endswith("the untrained ones are kept")


def test_both_losses_and_the_runtime_are_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Core ML has room for 64 tokens."""
    tiny_decoders.make(tmp_path / "tiny", "smollm2", num_hidden_layers=1)
    (tmp_path / "calibration.txt").write_text(tiny_decoders.TEXT.read_text()[:5000])
    recipe = DECODER.replace("onnx, devices: [here]", "coreml, devices: [iphone-15-pro]")
    (coreml, gguf), _ = built(tmp_path, recipe, tmp_path / "store", monkeypatch)
    for artifact, runtime in ((coreml, "by edgeq's executor"), (gguf, "by llama.cpp")):
        note = artifact.settings["notes"][-1]
        after, before = map(float, re.findall(r"(?:lose|training) (\d+\.\d+)", note))
        assert runtime in note
        is_trained = "learned" in {each.method for each in artifact.tensors.values()}
        assert is_trained == (after < before) == note.endswith("the trained ones are kept")


def test_without_its_runtime_a_file_is_judged_by_torch_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Experts that share one tensor of the file are trained, too."""

    def missing(*_: Any) -> None:
        raise Missing(Problem("xllamacpp", "not installed", "pip install it"))

    tiny_decoders.make(tmp_path / "tiny", "qwen3_moe", num_hidden_layers=1)
    (tmp_path / "calibration.txt").write_text(tiny_decoders.TEXT.read_text()[:5000])
    monkeypatch.setattr(loss, "loss_in_runtime", missing)
    recipe = DECODER.replace("{format: onnx, devices: [here]}, ", "")
    (gguf,), _ = built(tmp_path, recipe, tmp_path / "store", monkeypatch)
    assert "learned" in {each.method for each in gguf.tensors.values()}
    note = gguf.settings["notes"][-1]
    assert note.startswith("trained codes are kept as torch judged, not the file's runtime:")
    assert "xllamacpp: not installed" in note


def test_too_few_samples_to_judge_by_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_decoders.make(tmp_path / "tiny", "smollm2", num_hidden_layers=1)
    (tmp_path / "calibration.txt").write_text(tiny_decoders.TEXT.read_text()[:2000])
    monkeypatch.setattr(stage, "learn", None)
    with pytest.raises(InvalidInput, match="every eighth is held out to judge by"):
        built(tmp_path, DECODER, tmp_path / "store", monkeypatch)
