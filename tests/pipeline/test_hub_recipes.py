"""The recipes for models of a hub are planned from their configurations alone.

The configurations are the published ones, put into a cache as the hub's own client lays it out; the
tokenizer in it is another model's, of which a plan only takes the size.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgeq.models.architectures import decoder_of
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.plan.records import Plan

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"

SMOLLM2: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}
QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
LLAMA3: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "vocab_size": 128256,
}
# Parameters as the model cards and weight files have them.
PARAMETERS = {
    "smollm2-135m": (SMOLLM2, 134_515_008),
    "qwen3-0.6b": (QWEN3, 596_049_920),
    "llama-3.2-1b": (LLAMA3, 1_235_814_400),
}


def planned(name: str, config: dict[str, Any], folder: Path, patch: pytest.MonkeyPatch) -> Plan:
    """A plan with nothing but the configuration and a tokenizer in the hub's cache."""
    recipe = RECIPES / f"{name}.yaml"
    source = next(line for line in recipe.read_text().splitlines() if "source: hub:" in line)
    repository, revision = source.split("hub:")[1].split("@")
    snapshot = folder / f"models--{repository.replace('/', '--')}" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"eos_token_id": 1, **config}))
    shutil.copyfile(RECIPES / "wren" / "tokenizer.json", snapshot / "tokenizer.json")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (snapshot / "tokenizer_config.json").write_text(json.dumps(settings))
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return make_plan(recipe).plan


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_configuration_says_every_weight(name: str) -> None:
    config, parameters = PARAMETERS[name]
    total = 0
    for shape in decoder_of(config, name).tensors().values():
        size = 1
        for length in shape:
            size *= length
        total += size
    assert total == parameters


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipe_is_planned_without_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, parameters = PARAMETERS[name]
    plan = planned(name, config, tmp_path, monkeypatch)
    by_name = {artifact.name: artifact for artifact in plan.artifacts}
    assert {artifact.format for artifact in plan.artifacts} == {"gguf", "onnx"}
    mix = by_name["gguf-Q4_K_M"]
    assert mix.cache_bytes is not None
    assert 4 < mix.weight_bytes * 8 / parameters < 7.5
    for format in ("gguf", "onnx"):
        int4 = by_name[f"{format}-int4-b32"]
        assert {tensor.number_format for tensor in int4.tensors if len(tensor.shape) > 1} <= {
            "int4-b32",
            "int8-b32",
        }
        # Keys and values of every layer for every position, in 2 or 4 bytes.
        heads, layers = config["num_key_value_heads"], config["num_hidden_layers"]
        width = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
        context = 2048 if name == "smollm2-135m" else 4096
        size = 2 if format == "gguf" else 4
        assert int4.cache_bytes == 2 * heads * layers * width * context * size


def test_rows_that_do_not_divide_fall_back_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned("smollm2-135m", SMOLLM2, tmp_path, monkeypatch)
    (mix,) = (artifact for artifact in plan.artifacts if artifact.name == "gguf-Q4_K_M")
    tensors = {tensor.name: tensor for tensor in mix.tensors}
    assert (
        tensors["model.layers.5.self_attn.q_proj.weight"].number_format == "Q5_0"
    )  # 576 = 2.25 × 256
    assert tensors["model.layers.5.mlp.down_proj.weight"].number_format.endswith(
        "_K"
    )  # 1536 = 6 × 256
