"""Recipes whose source is a GGUF file: llama.cpp, on that file, is the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.measure.reference import ANSWERS_FILE
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.pipeline.proof.answers import record_answers
from edgeq.pipeline.proof.original import proof_request
from edgeq.pipeline.proof.prove import prove
from edgeq.pipeline.proof.request import AnswersRequest, ProofRequest
from tests.formats.gguf.test_write import open_model, reference_logits, token_ids, write
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import float_graph

RECIPE = """
edgeq: 1
name: tiny
model: {source: ./model.gguf, task: text-generation}
data: {calibration: {path: text.txt}}
quantize: {default: [int8]}
targets:
  - {format: gguf, devices: [x86-laptop-8gb]}
  - {format: onnx, devices: [x86-laptop-8gb]}
workload: {context: 64, prompt: 32, generate: 16}
"""


def planned(folder: Path, family: str, number_format: str = "F32") -> Planned:
    source = tiny_decoders.make(folder / "model", family)
    write(source, folder / "model.gguf", number_format)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "text.txt").write_text(tiny_decoders.TEXT.read_text())
    return make_plan(folder / "recipe.yaml", weights=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))


def request_of(found: Planned, graph: Path) -> ProofRequest:
    return proof_request(found.model, "text-generation", graph, found.path.parent / "text.txt")


@pytest.mark.parametrize(("family", "number_format"), [("smollm2", "F32"), ("gemma3_text", "Q4_0")])
def test_the_float_graph_is_compared_with_llama_cpp(
    tmp_path: Path, family: str, number_format: str
) -> None:
    found = planned(tmp_path, family, number_format)
    assert "llama.cpp" in found.plan.reference
    graph = float_graph(found.model.located.path, tmp_path / "float")
    proof = prove(request_of(found, graph))
    assert "llama.cpp" in proof.reference
    assert proof.difference is not None and proof.tolerance is not None
    assert proof.difference <= proof.tolerance < 1e-2
    noted = [note for artifact in found.plan.artifacts for note in artifact.advice]
    assert any("already quantized" in note for note in noted) is (number_format == "Q4_0")


def test_weights_that_are_not_those_of_the_file_are_refused(tmp_path: Path) -> None:
    found = planned(tmp_path, "qwen3")
    weights = load_file(found.model.located.path / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**weights, name: -weights[name]}, tmp_path / "model" / "model.safetensors")
    graph = float_graph(tmp_path / "model", tmp_path / "float")
    with pytest.raises(InvalidInput, match="is not the model"):
        prove(request_of(found, graph))


def test_answers_are_those_of_the_weights_in_float32(tmp_path: Path) -> None:
    found = planned(tmp_path, "qwen2", "Q4_0")
    window = tuple(token_ids(40))
    (tmp_path / "answers").mkdir()
    request = AnswersRequest(
        directory=found.model.located.path,
        gguf=found.model.gguf,
        outputs=tmp_path / "answers",
        windows=(window,),
    )
    recorded = record_answers(request)
    assert "llama.cpp" in recorded.runtime
    with (tmp_path / "answers" / ANSWERS_FILE).open("rb") as file:
        assert np.load(file).tolist() == list(window)
        answers = np.load(file)
    exact = reference_logits(found.model.located.path, list(window))  # of the same weights
    rounding = open_model(tmp_path / "model.gguf").logits(list(window)) - exact
    assert np.abs(answers - exact[20:39]).max() < 1e-4 < np.abs(rounding).max()
