"""Gemma 4 answers alike in onnxruntime, in llama.cpp, and in a transformers that knows it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import torch
import transformers
from safetensors.numpy import load_file, save_file

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import TEXT_GENERATION
from edgeq.estimate.sizes import sizes_of_config
from edgeq.formats.gguf.hyperparameters import decoder_hyperparameters
from edgeq.formats.gguf.names import gguf_name, hugging_face_name
from edgeq.models.architectures import FAMILIES, decoder_of
from edgeq.models.huggingface import read_directory
from edgeq.models.original.network import open_network, unknown_architecture
from edgeq.models.second_reading import require_second_reading
from tests.support import gemma4
from tests.support.commands import run_edgeq
from tests.support.decoder_artifacts import decoder_in, float_graph, logits_of
from tests.support.gguf_artifacts import write_file

FAMILY, TOKENS = "gemma4_text", 100
CASES = pytest.mark.parametrize("changes", [{}, gemma4.ONE_PRODUCT], ids=["lent", "one product"])


def text() -> np.ndarray:
    return np.random.default_rng(0).integers(300, 650, TOKENS)


def in_pieces(path: Path, folder: Path, cuts: list[int]) -> np.ndarray:
    """Logits by the float graph, of the tokens up to each cut in one run."""
    return logits_of(float_graph(path, folder) / MODEL_FILE, decoder_in(path), text(), cuts)


@CASES
def test_llama_cpp_answers_as_the_graph(tmp_path: Path, changes: dict[str, Any]) -> None:
    """But for its activation, a table in float16: two implementations that share nothing."""
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from edgeq.formats.gguf.model import GgufLanguageModel, open_files

    path, ids = gemma4.make(tmp_path / "model", **changes), text()
    found = in_pieces(path, tmp_path / "float", [TOKENS])
    model = open_files(write_file(path, tmp_path / "a.gguf", "F32"), None, threads=1)
    assert isinstance(model, GgufLanguageModel)
    wrong = np.abs(model.logits(ids) - found)
    assert wrong.max() < 2e-3 and wrong.mean() < 2e-4
    assert np.abs(found).max() > 1
    stepped = [model.prefill(ids[:1]), *(model.step(int(token)) for token in ids[1:40])]
    assert np.abs(np.stack(stepped) - found[:40]).max() < 2e-3
    # Positions of all layers are one block of 512 here: a window and a prompt are longer.
    config = json.loads((path / "config.json").read_text())
    assert model.cache_bytes(512) == sizes_of_config(config, "x").cache_bytes(512, 4) + _unwindowed(
        config
    )


def _unwindowed(config: dict[str, Any]) -> int:
    """Bytes of the positions that a window spares a runtime that keeps no more than it."""
    own = config["layer_types"][: 6 - config["num_kv_shared_layers"]]
    return int(own.count("sliding_attention")) * (512 - 16) * 2 * 2 * 32 * 4


@CASES
def test_pieces_answer_as_the_whole(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = gemma4.make(tmp_path / "model", **changes)
    whole = in_pieces(path, tmp_path / "one", [TOKENS])
    pieces = in_pieces(path, tmp_path / "more", [7, 40, 41, TOKENS])
    assert np.abs(whole - pieces).max() < 1e-5


@CASES
def test_transformers_answers_as_the_graph(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = gemma4.make(tmp_path / "model", **changes)
    directory = read_directory(path, "x")
    if FAMILY not in transformers.CONFIG_MAPPING:
        with pytest.raises(InvalidInput, match=r"transformers [\d.]+ does not know .*gemma4"):
            open_network(directory, TEXT_GENERATION)
        pytest.skip("this transformers does not know it")
    found = in_pieces(path, tmp_path / "float", [TOKENS])
    with torch.no_grad():
        wanted = open_network(directory, TEXT_GENERATION)(torch.from_numpy(text())[None]).logits
    assert np.abs(wanted[0].numpy() - found).max() < 1e-4


def test_a_plan_names_a_library_that_is_too_old_and_a_build_ends_at_once(tmp_path: Path) -> None:
    if FAMILY in transformers.CONFIG_MAPPING:
        pytest.skip("this transformers knows it")
    gemma4.make(tmp_path / "model", max_position_embeddings=1024)
    recipe = {
        "edgeq": 1,
        "name": "a",
        "model": {"source": "./model", "task": "text-generation"},
        "quantize": {"default": ["int8-b32"]},
        "targets": [{"format": "onnx", "devices": ["here"]}],
    }
    (tmp_path / "a.yaml").write_text(json.dumps(recipe))
    planned, built = (
        run_edgeq(verb, "a.yaml", store=tmp_path / "store", cwd=tmp_path)
        for verb in ("plan", "build")
    )
    assert (planned.returncode, built.returncode) == (0, 2)
    for said in (planned.stdout, built.stderr):
        assert "does not know the architecture 'gemma4_text'" in said
        assert "pip install --upgrade transformers" in " ".join(said.split())
    assert not list((tmp_path / "store").glob("float/*"))


@pytest.mark.parametrize("family", [*FAMILIES, "bert", "modernbert"])
def test_the_library_is_asked_without_importing_it(tmp_path: Path, family: str) -> None:
    model = gemma4.make(tmp_path / "model")
    directory = replace(read_directory(model, "x"), config={"model_type": family})
    assert (unknown_architecture(directory) is None) == (family in transformers.CONFIG_MAPPING)


def test_keys_of_layers_that_borrow_are_left_out(tmp_path: Path) -> None:
    """The published files have them, and no version reads them."""
    path = gemma4.make(tmp_path / "model")
    wanted = read_directory(path, "x").tensors
    tensors = load_file(path / "model.safetensors")
    for layer in (3, 4, 5):
        for name in ("k_proj.weight", "v_proj.weight", "k_norm.weight"):
            own = f"model.layers.{layer}.self_attn.{name}"
            assert own not in tensors
            tensors[own] = tensors[f"model.layers.{layer - 3}.self_attn.{name}"]
    whole = {name.replace("model.", "model.language_model.", 1): tensors[name] for name in tensors}
    whole["model.audio_tower.x.weight"] = np.ones((2, 2), np.float32)
    save_file(whole, path / "model.safetensors", {"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    outer = {"model_type": "gemma4", "text_config": config, "audio_config": None}
    (path / "config.json").write_text(json.dumps(outer))
    assert read_directory(path, "x").tensors == wanted


def test_both_ways_to_write_sizes_are_read_alike() -> None:
    """transformers 5.24 writes them layer by layer."""
    older = gemma4.configuration(**gemma4.ONE_PRODUCT)
    own = {"head_dim": 64, "num_key_value_heads": 1}
    newer = {k: v for k, v in older.items() if not k.startswith(("global_", "num_global_"))}
    newer["per_layer_config"] = {"2": own, "5": own}
    decoder = decoder_of(newer, "x")
    assert decoder == decoder_of(older, "x")
    for config in (older, newer):
        require_second_reading(config, decoder, "x")
    with pytest.raises(InvalidInput, match="head_dim"):
        require_second_reading({**older, "head_dim": 48}, decoder, "x")


def published(**changes: Any) -> dict[str, Any]:
    """The settings of Gemma 4 E2B's language part."""
    fifth = ["sliding_attention"] * 4 + ["full_attention"]
    own = {
        **{"head_dim": 256, "global_head_dim": 512, "hidden_size": 1536, "layer_types": fifth * 7},
        **{"hidden_size_per_layer_input": 256, "intermediate_size": 6144, "vocab_size": 262144},
        **{"num_attention_heads": 8, "num_hidden_layers": 35, "num_key_value_heads": 1},
        **{"num_kv_shared_layers": 20, "sliding_window": 512, "max_position_embeddings": 131072},
        "vocab_size_per_layer_input": 262144,
    }
    return gemma4.configuration(**{**own, **changes})


def test_sizes_of_a_published_model() -> None:
    sizes = sizes_of_config(published(), "config.json")
    assert 4.4e9 < sizes.parameters < 4.8e9
    assert 2.1e9 < sizes.active_parameters < 2.4e9
    # Of fifteen layers with keys three see the whole text, with heads twice as wide.
    assert sizes.cache_bytes(2048, 2) == 2 * 2 * (3 * 2048 * 512 + 12 * 512 * 256)
    decoder_hyperparameters(decoder_of(published(), "x"), "x")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("invented", 1),
        ("enable_moe_block", True),
        ("attention_bias", True),
        ("use_bidirectional_attention", "all"),
        ("num_kv_shared_layers", 35),
        ("layer_types", ["sliding_attention"] * 35),
        ("per_layer_config", {"4": {"head_dim": 512}}),
        ("rope_parameters", {"full_attention": {"rope_type": "proportional", "rope_theta": 0}}),
        ("rope_parameters", {"invented": {}}),
    ],
)
def test_what_it_does_not_compute_is_refused(key: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=key if key != "rope_parameters" else "rope_|theta"):
        sizes_of_config(published(**{key: value}), "config.json")


def test_a_mixture_of_experts_has_a_remedy() -> None:
    with pytest.raises(InvalidInput, match=r"mixture of experts(.|\n)*convert_hf_to_gguf\.py"):
        sizes_of_config(published(enable_moe_block=True), "config.json")


def test_what_llama_cpp_would_run_otherwise_is_refused() -> None:
    kinds = ["sliding_attention", "full_attention"] * 3
    decoder = decoder_of(gemma4.configuration(layer_types=kinds), "x")
    with pytest.raises(InvalidInput, match="last layers with keys of their own"):
        decoder_hyperparameters(decoder, "x")


def test_names_turn_back() -> None:
    for name in decoder_of(published(), "x").tensors():
        assert hugging_face_name(FAMILY, gguf_name(FAMILY, name)) == name
