"""Gemma 3n: what is not in every family's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import torch
from safetensors.torch import load_file, save_file

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import TEXT_GENERATION
from edgeq.estimate.sizes import sizes_of_config
from edgeq.formats.gguf.hyperparameters import decoder_hyperparameters
from edgeq.formats.gguf.names import gguf_name, hugging_face_name
from edgeq.models.architectures import decoder_of
from edgeq.models.architectures.per_layer import TABLE
from edgeq.models.graphs.decoder_onnx import decoder_feeds
from edgeq.models.huggingface import read_directory
from edgeq.models.onnx_session import open_session
from edgeq.models.original.network import open_network
from edgeq.models.weights import open_weights
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import float_graph, logits_of
from tests.support.gguf_artifacts import write_file

FAMILY = "gemma3n_text"


class HalfGelu(torch.nn.Module):
    """llama.cpp's: a table of float16 for every float16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x >= 10, x, torch.where(x <= -10, torch.zeros_like(x), y))


def answers(network: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(ids)[None]).logits[0])


def test_llama_cpp_answers_as_the_original_but_for_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its activation is a table in float16, and it divides by one value less for a deviation: with
    both in transformers, the answers are the same, as far as 25 layers leave them.
    """
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from edgeq.formats.gguf.model import GgufLanguageModel, open_files

    published = tiny_decoders.GEMMA3N_AS_PUBLISHED
    path = tiny_decoders.make(tmp_path / "model", FAMILY, **published)
    model = open_files(write_file(path, tmp_path / "a.gguf", "F32"), None, threads=1)
    assert isinstance(model, GgufLanguageModel)
    ids = np.random.default_rng(0).integers(300, 650, 100)
    network = open_network(read_directory(path, "x"), TEXT_GENERATION)
    for layer in network.model.layers:
        layer.mlp.act_fn = layer.act_fn = HalfGelu()
    usual = torch.std
    monkeypatch.setattr(torch, "std", lambda *a, **k: usual(*a, **{**k, "unbiased": True}))
    wrong = np.abs(model.logits(ids) - answers(network, ids))
    assert wrong.max() < 5e-3
    assert wrong.mean() < 5e-4
    # Five layers of 25 borrow; five of the others see everything, in cells of 256.
    assert model.cache_bytes(model.context) == 20 * 2 * 2 * 32 * 256 * 4


def test_a_model_of_images_and_sounds_is_its_language_part(tmp_path: Path) -> None:
    path = tiny_decoders.make(tmp_path / "text", FAMILY)
    whole = tiny_decoders.make(tmp_path / "whole", FAMILY)
    tensors = load_file(path / "model.safetensors")
    tensors = {name.replace(".language_model_", "_"): value for name, value in tensors.items()}
    parts = ("vision_tower.a", "audio_tower.b", "embed_vision.c", "embed_audio.d")
    tensors |= {f"model.{name}.weight": torch.ones(2, 2) for name in parts}
    save_file(tensors, whole / "model.safetensors", {"format": "pt"})
    text = json.loads((path / "config.json").read_text())
    outer = {"model_type": "gemma3n", "text_config": text, "vision_config": {}, "audio_config": {}}
    (whole / "config.json").write_text(json.dumps({**outer, "audio_soft_tokens_per_image": 188}))
    found, wanted = (read_directory(each, "x") for each in (whole, path))
    assert found.tensors == wanted.tensors
    decoder = decoder_of(found.config, "x")
    ids = np.random.default_rng(0).integers(3, 650, 30)
    logits = logits_of(float_graph(whole, tmp_path / "float") / MODEL_FILE, decoder, ids)
    networks = [open_network(each, TEXT_GENERATION) for each in (found, wanted)]
    first, second = (answers(network, ids) for network in networks)
    assert np.array_equal(first, second)
    assert np.abs(logits - first).max() < 1e-4


def test_tokens_of_images_have_the_first_row_of_the_second_table(tmp_path: Path) -> None:
    path = tiny_decoders.make(tmp_path / "text", FAMILY, vocab_size_per_layer_input=600)
    directory = read_directory(path, "x")
    assert directory.tensors[TABLE].shape[0] == 700
    weights = open_weights(directory)
    whole = weights.read(TABLE)
    assert np.array_equal(whole[600:], np.repeat(whole[:1], 100, axis=0))
    for start, stop in ((0, 5), (590, 610), (650, 700)):
        assert np.array_equal(weights.rows(TABLE, start, stop), whole[start:stop])
    ids = np.random.default_rng(0).integers(3, 600, 30)
    decoder = decoder_of(directory.config, "x")
    logits = logits_of(float_graph(path, tmp_path / "float") / MODEL_FILE, decoder, ids)
    assert np.abs(logits - answers(open_network(directory, TEXT_GENERATION), ids)).max() < 1e-4


def test_keys_that_nothing_reads_may_lack(tmp_path: Path) -> None:
    """As transformers 5 saves it; llama.cpp wants a weight there."""
    path = tiny_decoders.make(tmp_path / "text", FAMILY)
    without = tiny_decoders.make(tmp_path / "without", FAMILY)
    tensors = load_file(path / "model.safetensors")
    parts = ("k_proj.weight", "v_proj.weight", "k_norm.weight")
    unread = [
        n for n in tensors if n.endswith(parts) and any(f".{at}.self" in n for at in (3, 4, 5))
    ]
    assert len(unread) == 9
    own = {name: value for name, value in tensors.items() if name not in unread}
    save_file(own, without / "model.safetensors", {"format": "pt"})
    found, wanted = (read_directory(each, "x") for each in (without, path))
    assert found.tensors == wanted.tensors
    weights = open_weights(found)
    assert not any(weights.read(name).any() for name in found.absent)
    graphs = [float_graph(each, tmp_path / each.name / "float") for each in (without, path)]
    feed = decoder_feeds(decoder_of(found.config, "x"), [[3, 5, 7, 11] * 10])[0]
    first, second = (
        open_session(graph / MODEL_FILE, threads=1).run(["logits"], dict(feed))[0]
        for graph in graphs
    )
    assert np.array_equal(first, second)
    del own["model.language_model.layers.2.self_attn.k_proj.weight"]
    save_file(own, without / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidInput, match="k_proj"):
        float_graph(without, tmp_path / "broken")


@pytest.mark.parametrize(
    "changes",
    [
        {"altup_num_inputs": 3, "altup_active_idx": 2, "altup_coef_clip": 0.01},
        {"altup_correct_scale": False, "final_logit_softcapping": 1.0},
        {"intermediate_size": [96, 288, 96, 64, 96, 160], "num_kv_shared_layers": 0},
    ],
)
def test_other_settings_are_computed_too(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tiny_decoders.make(tmp_path / "text", FAMILY, **changes)
    directory = read_directory(path, "x")
    decoder = decoder_of(directory.config, "x")
    ids = np.random.default_rng(0).integers(3, 600, 40)
    logits = logits_of(float_graph(path, tmp_path / "float") / MODEL_FILE, decoder, ids)
    network = open_network(directory, TEXT_GENERATION)
    assert np.abs(logits - answers(network, ids)).max() < 1e-4
    with pytest.raises(InvalidInput, match=r"llama\.cpp cannot run"):
        decoder_hyperparameters(decoder, "x")


def published(**changes: Any) -> dict[str, Any]:
    """The settings of Gemma 3n E2B's language part."""
    every_fifth = ["sliding_attention"] * 4 + ["full_attention"]
    return {
        **{"activation_sparsity_pattern": [0.95] * 10 + [0.0] * 20, "altup_active_idx": 0},
        **{"altup_coef_clip": 120.0, "altup_correct_scale": True, "altup_lr_multiplier": 1.0},
        **{"altup_num_inputs": 4, "attention_bias": False, "final_logit_softcapping": 30.0},
        **{"head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2048},
        **{"hidden_size_per_layer_input": 256, "intermediate_size": [8192] * 30},
        **{"laurel_rank": 64, "layer_types": every_fifth * 6, "model_type": FAMILY},
        **{"max_position_embeddings": 32768, "num_attention_heads": 8, "num_hidden_layers": 30},
        **{"num_key_value_heads": 2, "num_kv_shared_layers": 10, "query_pre_attn_scalar": 256},
        **{"rms_norm_eps": 1e-6, "rope_local_base_freq": 10000.0, "rope_scaling": None},
        **{"rope_theta": 1e6, "sliding_window": 512, "vocab_size": 262400},
        **{"vocab_size_per_layer_input": 262144, **changes},
    }


def test_sizes_of_a_published_model() -> None:
    sizes = sizes_of_config(published(), "config.json")
    assert 4.4e9 < sizes.parameters < 4.6e9
    assert 1.9e9 < sizes.active_parameters < 2.5e9  # "effective 2 B" counts no output layer
    # Twenty layers keep keys, four of them of the whole text.
    assert sizes.cache_bytes(2048, 2) == 2 * 2 * 256 * 2 * (4 * 2048 + 16 * 512)
    assert decoder_hyperparameters(decoder_of(published(), "x"), "x").notes


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("invented", 1),
        ("num_kv_shared_layers", 30),
        ("num_kv_shared_layers", 27),
        ("altup_active_idx", 4),
        ("altup_num_inputs", 1),
        ("attention_bias", True),
        ("intermediate_size", [8192] * 29),
        ("activation_sparsity_pattern", [0.95] * 10),
        ("vocab_size_per_layer_input", 262401),
    ],
)
def test_what_it_does_not_compute_is_refused(key: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=key):
        sizes_of_config(published(**{key: value}), "config.json")


def test_names_turn_back() -> None:
    for name in decoder_of(published(), "x").tensors():
        module = name.replace(".0.weight", ".weight") if "altup_" in name else name
        if not module.endswith(("_projections.1.weight", "_projections.2.weight")):
            assert hugging_face_name(FAMILY, gguf_name(FAMILY, name)) == module
