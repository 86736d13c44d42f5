"""Language models as directories of onnxruntime-genai: the same greedy tokens, by the package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

import edgeq
from edgeq.core.artifact import MODEL_FILE
from edgeq.formats.language import LanguageModel
from edgeq.formats.onnx.genai import CONFIG_FILE, GRAPH_FILE, write_genai
from edgeq.models.architectures import Decoder, decoder_of
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import decoder_artifact, float_graph, nearest_codes

TOKENS = 64
GENERATE = """
import json, sys
import onnxruntime_genai as og
folder, prompt, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
params = og.GeneratorParams(og.Model(folder))
params.set_search_options(max_length=len(prompt) + count, do_sample=False)
generator = og.Generator(og.Model(folder), params)
generator.append_tokens(prompt)
while not generator.is_done():
    generator.generate_next_token()
print(json.dumps([int(token) for token in generator.get_sequence(0)][len(prompt):]))
"""
PYTHON = os.environ.get("EDGEQ_GENAI_PYTHON", sys.executable)


def decoder(path: Path) -> Decoder:
    return decoder_of(json.loads((path / "config.json").read_text()), str(path))


def made(folder: Path, family: str, number_format: str | None = None) -> tuple[Decoder, Path, Path]:
    """A model, its artifact, and a copy of that with both files."""
    source = tiny_decoders.make(folder / "model", family, max_position_embeddings=512)
    graph = float_graph(source, folder / "float")
    codes = nearest_codes(graph, number_format) if number_format else None
    artifact = decoder_artifact(source, graph, folder / "onnx", codes)
    found = decoder(source)
    shutil.copytree(artifact, folder / "genai")
    assert write_genai(folder / "genai", found, None) == [GRAPH_FILE, CONFIG_FILE]
    return found, artifact, folder / "genai"


def has_genai() -> bool:
    command = [PYTHON, "-c", "import onnxruntime_genai"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_genai(), reason="onnxruntime-genai is not installed")
@pytest.mark.parametrize(
    ("family", "number_format"),
    [("llama3", "int4-b32"), ("gemma3_text", None), ("smollm3", "int8-b32")],
)
def test_greedy_tokens_are_ours(tmp_path: Path, family: str, number_format: str | None) -> None:
    found, artifact, folder = made(tmp_path, family, number_format)
    prompt = np.random.default_rng(0).integers(300, 650, 20).tolist()
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["model"]["eos_token_id"] = [found.vocabulary - 1]  # random weights end early
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    words = [PYTHON, "-c", GENERATE, str(folder), json.dumps(prompt), str(TOKENS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    model = edgeq.load(artifact, threads=1)
    assert isinstance(model, LanguageModel)
    logits, ids = model.prefill(prompt), []
    for _ in range(TOKENS):
        ids.append(int(logits.argmax()))
        logits = model.step(ids[-1])
    assert json.loads(done.stdout) == ids


def test_weights_are_shared_with_our_own_graph(tmp_path: Path) -> None:
    _, artifact, folder = made(tmp_path, "qwen3")
    assert (folder / GRAPH_FILE).stat().st_size < 2 * (artifact / MODEL_FILE).stat().st_size
    graph = onnx.load(folder / GRAPH_FILE, load_external_data=False).graph
    places = {entry.value for w in graph.initializer for entry in w.external_data[:1]}
    assert places == {f"{MODEL_FILE}.data"}
    assert [value.name for value in graph.input][:2] == ["input_ids", "attention_mask"]


@pytest.mark.parametrize("family", ["phi3-longrope", "lfm2"])
def test_what_that_library_does_not_pass_is_not_offered(tmp_path: Path, family: str) -> None:
    """The text's length, and what a convolution carries on."""
    source = tiny_decoders.make(tmp_path / "model", family)
    graph = float_graph(source, tmp_path / "float")
    assert write_genai(graph, decoder(source), None) == []
    assert not (graph / GRAPH_FILE).exists()
