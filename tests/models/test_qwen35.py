"""Qwen 3.5 answers as Qwen3-Next with the same weights does in transformers, in both formats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import torch
import transformers
from safetensors.torch import load_file, save_file

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import TEXT_GENERATION
from edgeq.estimate.sizes import sizes_of_config
from edgeq.formats.gguf.decide import GgufDecision
from edgeq.formats.gguf.hyperparameters import decoder_hyperparameters
from edgeq.formats.gguf.names import gguf_name, hugging_face_name
from edgeq.formats.gguf.write import planned_bytes, write_gguf_model
from edgeq.formats.onnx.write import write_codes
from edgeq.models.architectures import decoder_of
from edgeq.models.architectures.experts import of_all_experts
from edgeq.models.graphs.decoder_onnx import decoder_feeds
from edgeq.models.huggingface import read_directory
from edgeq.models.original.network import open_network
from edgeq.quantize.ggml.types import TYPES
from tests.support import qwen35
from tests.support.decoder_artifacts import (
    decide_on,
    decoder_in,
    float_graph,
    logits_of,
    nearest_codes,
)
from tests.support.gguf_artifacts import write_file

WRONG = 2e-4  # of logits up to 6; transformers' two ways to compute the rule differ by half of it
Made = tuple[Path, np.ndarray, np.ndarray]


@pytest.fixture(
    scope="module",
    params=[{}, {"value_heads": 6}, {"value_heads": 4, "layers": 4, "experts": True}],
    ids=["equal heads", "shared keys", "experts"],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model, a text, and the network's logits for it."""
    folder = tmp_path_factory.mktemp("qwen35") / "model"
    path, network = qwen35.make(folder, **request.param)
    ids = np.random.default_rng(0).integers(3, 700, 150)
    with torch.no_grad():
        return path, ids, network(torch.from_numpy(ids)[None], use_cache=False).logits[0].numpy()


@pytest.mark.parametrize("cuts", [[150], [1, 2, 3, 90, 150]], ids=["whole", "pieces"])
def test_the_graph_answers_as_the_original(made: Made, tmp_path: Path, cuts: list[int]) -> None:
    path, ids, expected = made
    graph, decoder = float_graph(path, tmp_path / "float") / MODEL_FILE, decoder_in(path)
    random = np.random.default_rng(0)
    of_another_text = {
        name: random.standard_normal(value.shape).astype(np.float32)
        for name, value in decoder_feeds(decoder, [ids.tolist()])[0].items()
        if name.endswith((".conv", ".state"))
    }
    logits = logits_of(graph, decoder, ids, cuts, of_another_text)
    assert np.abs(logits - expected).max() < WRONG < np.abs(expected).max()


def test_llama_cpp_answers_as_the_original(made: Made, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from edgeq.formats.gguf.model import GgufLanguageModel, open_files

    path, ids, expected = made
    model = open_files(write_file(path, tmp_path / "a.gguf", "F32"), None, threads=1)
    assert isinstance(model, GgufLanguageModel)
    assert np.abs(model.logits(ids) - expected).max() < WRONG
    assert model.cache_bytes(model.context) == cache_of(path, model.context)
    model.prefill(ids[::-1])
    stepped = [model.prefill(ids[:1]), *(model.step(int(token)) for token in ids[1:40])]
    assert np.abs(np.stack(stepped) - expected[:40]).max() < WRONG


def test_the_same_codes_answer_alike_in_both_formats(made: Made, tmp_path: Path) -> None:
    """Columns of shared heads move with their scales. Both runtimes round inputs to 8 bits, which a
    random model's memory magnifies; heads at other places would leave nothing alike.
    """
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from edgeq.formats.gguf.model import GgufLanguageModel, open_files

    path, ids, expected = made
    graph, written = float_graph(path, tmp_path / "float"), tmp_path / "int8"
    codes = nearest_codes(graph, "int8-b32")
    assert any("linear_attn.out_proj" in name for name in codes)
    written.mkdir()
    write_codes(graph, written, decide_on("int8-b32"), codes)
    onnx = logits_of(written / MODEL_FILE, decoder_in(path), ids)
    directory = read_directory(path, "x")
    kept = {name: GgufDecision(TYPES["F32"], "F32", "none", "", 0) for name in directory.tensors}
    rounded = dict.fromkeys(codes, GgufDecision(TYPES["Q8_0"], "int8-b32", "nearest", "", 0))
    file = tmp_path / "a.gguf"
    write_gguf_model(
        directory, file, {**kept, **rounded}, codes, None, mix="int8-b32", progress=str
    )
    model = open_files(file, None, threads=1)
    assert isinstance(model, GgufLanguageModel)
    scale = np.abs(expected).mean()
    assert np.abs(onnx - expected).mean() < 0.2 * scale
    assert np.abs(model.logits(ids) - onnx).mean() < 0.2 * scale


def cache_of(path: Path, context: int) -> int:
    sizes = sizes_of_config(json.loads((path / "config.json").read_text()), "x")
    return int(sizes.cache_bytes(context, 4))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"linear_value_head_dim": 64}, "differ in width"),
        (
            {
                "full_attention_interval": None,
                "layer_types": ["full_attention", "linear_attention"] * 12,
            },
            "regularly spaced",
        ),
    ],
)
def test_what_llama_cpp_would_run_otherwise_is_refused(changes: dict[str, Any], what: str) -> None:
    config = published(**changes)["text_config"]
    with pytest.raises(InvalidInput, match=what):
        decoder_hyperparameters(decoder_of(config, "x"), "x")


def test_codes_in_blocks_that_heads_do_not_fill_are_refused(tmp_path: Path) -> None:
    path, _ = qwen35.make(tmp_path / "model", value_heads=8, layers=4)
    directory = read_directory(path, "x")
    plain = GgufDecision(TYPES["F32"], "F32", "none", "", 0)
    own = GgufDecision(TYPES["Q4_K"], "Q4_K", "gptq", "", 0)
    decisions = dict.fromkeys(directory.tensors, plain)
    assert planned_bytes(directory, decisions, mix="F32")
    decisions["model.layers.0.linear_attn.out_proj.weight"] = own
    with pytest.raises(InvalidInput, match="not whole blocks of 256"):
        planned_bytes(directory, decisions, mix="Q4_K_M")


def test_a_library_that_is_too_old_is_named(made: Made) -> None:
    if "qwen3_5_text" in transformers.CONFIG_MAPPING:
        pytest.skip("this transformers knows it")
    with pytest.raises(InvalidInput, match=r"transformers [\d.]+ does not know .*qwen3_5"):
        open_network(read_directory(made[0], "x"), TEXT_GENERATION)


def test_names_turn_back(made: Made) -> None:
    directory = read_directory(made[0], "x")
    family = directory.config["model_type"]
    for name in directory.tensors:
        shared = of_all_experts(name)
        assert hugging_face_name(family, gguf_name(family, name)) == (shared[0] if shared else name)


def test_weights_of_images_and_of_further_layers_are_left_out(made: Made, tmp_path: Path) -> None:
    tensors = load_file(made[0] / "model.safetensors")
    whole = {k.replace("model.", "model.language_model.", 1): v for k, v in tensors.items()}
    whole |= {f"{name}.weight": torch.ones(2, 2) for name in ("model.visual.norm", "mtp.fc")}
    folder = tmp_path / "whole"
    shutil.copytree(made[0], folder)
    save_file(whole, folder / "model.safetensors")
    text = json.loads((made[0] / "config.json").read_text())
    config = {"model_type": "qwen3_5", "text_config": text, "vision_config": {"depth": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    found, wanted = (read_directory(path, "x") for path in (folder, made[0]))
    assert found.tensors == wanted.tensors
    assert found.config == wanted.config


def published(experts: bool = False, **changes: Any) -> dict[str, Any]:
    """The settings of Qwen3.5-0.8B, or of Qwen3.5-35B-A3B, with keys that Qwen3.6 added."""
    every_fourth = ["linear_attention"] * 3 + ["full_attention"]
    text = {
        **{"attention_bias": False, "attn_output_gate": True, "full_attention_interval": 4},
        **{"head_dim": 256, "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3584},
        **{"layer_types": every_fourth * 6, "linear_conv_kernel_dim": 4},
        **{"linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16},
        **{"linear_num_value_heads": 16, "max_position_embeddings": 262144},
        **{"mamba_ssm_dtype": "float32", "mlp_only_layers": [], "model_type": "qwen3_5_text"},
        **{"mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False},
        **{"num_attention_heads": 8, "num_hidden_layers": 24, "num_key_value_heads": 2},
        **{"rms_norm_eps": 1e-6, "tie_word_embeddings": True, "vocab_size": 248320},
        **{"output_gate_type": "swish", "partial_rotary_factor": 0.25, "pad_token_id": None},
        "rope_parameters": {
            **{"mrope_interleaved": True, "mrope_section": [11, 11, 10], "rope_theta": 1e7},
            **{"partial_rotary_factor": 0.25, "rope_type": "default"},
        },
    }
    if experts:
        text |= {
            **{"model_type": "qwen3_5_moe_text", "hidden_size": 2048, "num_hidden_layers": 40},
            **{"layer_types": every_fourth * 10, "linear_num_value_heads": 32},
            **{"moe_intermediate_size": 512, "num_attention_heads": 16, "num_experts": 256},
            **{"num_experts_per_tok": 8, "output_router_logits": False},
            **{"router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 512},
            "tie_word_embeddings": False,
        }
        del text["intermediate_size"]
    outer = {
        **{"model_type": "qwen3_5_moe" if experts else "qwen3_5", "vision_config": {"depth": 12}},
        **{"image_token_id": 248056, "video_token_id": 248057, "language_model_only": False},
    }
    return {**outer, "text_config": {**text, **changes}}


def test_sizes_of_a_published_model() -> None:
    sizes = sizes_of_config(published(), "config.json")
    assert sizes.parameters == 752_393_024
    # Six layers of 24 keep keys and values; each other a matrix for every head.
    assert sizes.cache_bytes(1000, 2) - sizes.state == 6 * 2 * 2 * 256 * 2 * 1000
    assert sizes.state == 18 * 4 * (16 * 128 * 128 + 3 * 6144)


def test_sizes_of_a_published_model_with_experts() -> None:
    sizes = sizes_of_config(published(experts=True), "config.json")
    assert sizes.parameters == 34_660_610_688
    assert 2.9e9 < sizes.active_parameters < 3.5e9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("invented", 1),
        ("num_experts_per_tok", 257),
        ("norm_topk_prob", False),
        ("output_gate_type", "sigmoid"),
    ],
)
def test_what_its_experts_do_not_compute_is_refused(key: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=key):
        sizes_of_config(published(experts=True, **{key: value}), "config.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("invented", 1),
        ("attn_output_gate", False),
        ("full_attention_interval", 3),
        ("layer_types", ["linear_attention"] * 24),
        ("linear_conv_kernel_dim", 1),
        ("linear_num_value_heads", 24),
        ("mlp_only_layers", [1]),
    ],
)
def test_what_it_does_not_compute_is_refused(key: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        sizes_of_config(published(**{key: value}), "config.json")
    assert str(value) in str(refused.value) or key in str(refused.value)
