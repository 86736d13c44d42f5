"""LFM2 with experts answers as transformers' operators do, in both formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import torch

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.estimate.sizes import sizes_of_config
from edgeq.formats.gguf.hyperparameters import decoder_hyperparameters
from edgeq.models.architectures import decoder_of
from tests.support import lfm2_moe
from tests.support.decoder_artifacts import decoder_in, float_graph, logits_of
from tests.support.gguf_artifacts import write_file

WRONG = 1e-4


def expected(network: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = network(torch.from_numpy(ids)[None], use_cache=False).logits[0].numpy()
    return logits


@pytest.mark.parametrize("settings", [{}, {"norm_topk_prob": False, "routed_scaling_factor": 2.5}])
def test_the_graph_answers_as_the_original(tmp_path: Path, settings: dict[str, Any]) -> None:
    path, network = lfm2_moe.make(tmp_path / "model", **settings)
    ids = np.random.default_rng(0).integers(3, 650, 60)
    decoder = decoder_in(path)
    found = logits_of(float_graph(path, tmp_path / "float") / MODEL_FILE, decoder, ids)
    wanted = expected(network, ids)
    assert np.abs(found - wanted).max() < WRONG < np.abs(wanted).max()


def test_llama_cpp_answers_as_the_original(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from edgeq.formats.gguf.model import GgufLanguageModel, open_files

    path, network = lfm2_moe.make(tmp_path / "model")
    ids = np.random.default_rng(0).integers(3, 650, 60)
    model = open_files(write_file(path, tmp_path / "a.gguf", "F32"), None, threads=1)
    assert isinstance(model, GgufLanguageModel)
    wanted = expected(network, ids)
    assert np.abs(model.logits(ids) - wanted).max() < WRONG
    stepped = [model.prefill(ids[:1]), *(model.step(int(token)) for token in ids[1:20])]
    assert np.abs(np.stack(stepped) - wanted[:20]).max() < WRONG


def published(**changes: Any) -> dict[str, Any]:
    """The settings of LFM2-8B-A1B."""
    attend = {2, 6, 10, 14, 18, 21}
    return {
        **{"architectures": ["Lfm2MoeForCausalLM"], "model_type": "lfm2_moe"},
        **{"bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 0, "dtype": "bfloat16"},
        **{"conv_L_cache": 3, "conv_bias": False, "hidden_size": 2048, "initializer_range": 0.02},
        **{"intermediate_size": 7168, "max_position_embeddings": 128_000, "norm_eps": 1e-5},
        **{"layer_types": ["full_attention" if n in attend else "conv" for n in range(24)]},
        **{"moe_intermediate_size": 1792, "norm_topk_prob": True, "num_attention_heads": 32},
        **{"num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4},
        **{"num_hidden_layers": 24, "num_key_value_heads": 8, "rope_theta": 1e6},
        **{"routed_scaling_factor": 1.0, "tie_embedding": True, "use_cache": True},
        **{"use_expert_bias": True, "vocab_size": 65536},
        **changes,
    }


def test_sizes_of_a_published_model() -> None:
    sizes = sizes_of_config(published(), "config.json")
    assert sizes.parameters == 8_339_929_856 + 22 * 32  # numbers that choose experts are added
    assert sizes.active_parameters < 1.6e9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("invented", 1),
        ("num_dense_layers", 24),
        ("num_experts_per_tok", 33),
        ("layer_types", ["conv"] * 24),
        ("conv_L_cache", 1),
    ],
)
def test_what_it_does_not_compute_is_refused(key: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=key):
        sizes_of_config(published(**{key: value}), "config.json")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"norm_topk_prob": False}, "do not add up to one"),
        ({"routed_scaling_factor": 2.5}, "have a factor"),
        ({"conv_bias": True}, "convolutions have biases"),
    ],
)
def test_what_llama_cpp_would_run_otherwise_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        decoder_hyperparameters(decoder_of(published(**changes), "x"), "x")
