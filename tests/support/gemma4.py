"""Small models of Gemma 4, which transformers 4 does not know: random weights under its names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.models.architectures import decoder_of
from tests.support import tiny_decoders

_WINDOWED, _WHOLE = "sliding_attention", "full_attention"
ONE_PRODUCT = {
    **{"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "attention_k_eq_v": True},
    **{"num_global_key_value_heads": 1, "use_double_wide_mlp": False},
}
"""As in the largest models without experts."""


def configuration(**changes: Any) -> dict[str, Any]:
    """A config.json as of the published files."""
    return {
        **{"architectures": ["Gemma4ForCausalLM"], "model_type": "gemma4_text"},
        **{"attention_bias": False, "attention_k_eq_v": False, "enable_moe_block": False},
        **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 700},
        **{"final_logit_softcapping": 30.0, "global_head_dim": 64, "head_dim": 32},
        **{"hidden_activation": "gelu_pytorch_tanh", "hidden_size": 256},
        **{"hidden_size_per_layer_input": 64, "intermediate_size": 288, "num_hidden_layers": 6},
        **{"layer_types": [_WINDOWED, _WINDOWED, _WHOLE] * 2, "max_position_embeddings": 512},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "num_kv_shared_layers": 3},
        **{"rms_norm_eps": 1e-6, "sliding_window": 16, "tie_word_embeddings": True},
        **{"use_bidirectional_attention": None, "use_double_wide_mlp": True},
        "rope_parameters": {
            _WHOLE: {
                **{"partial_rotary_factor": 0.25, "rope_theta": 1e6},
                "rope_type": "proportional",
            },
            _WINDOWED: {"rope_theta": 1e4, "rope_type": "default"},
        },
        **{"vocab_size_per_layer_input": 700, **changes},
    }


def make(folder: Path, **changes: Any) -> Path:
    """Save a model; gives `folder` back."""
    from safetensors.numpy import save_file

    config, random = configuration(**changes), np.random.default_rng(0)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {}
    for name, shape in decoder_of(config, "config.json").tensors().items():
        scale, about = (0.08, 0.0) if len(shape) > 1 else (0.3, 1.0)
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            scale, about = 0.1, 0.3  # nothing else makes its scores small
        values = random.normal(about, 0.02 if "embed_tokens" in name else scale, shape)
        stored = name.replace("layer_scale.weight", "layer_scalar")
        tensors[stored] = values.astype(np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    tiny_decoders.tokenizer_of("gemma").save(str(folder / "tokenizer.json"))
    names = {**tiny_decoders.special_names("gemma"), "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder
