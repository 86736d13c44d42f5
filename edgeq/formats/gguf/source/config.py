"""The config.json of a GGUF file's language model, from its metadata."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.header import Header
from edgeq.formats.gguf.obstacles import SCALED_BY_HIDDEN
from edgeq.formats.gguf.rope_keys import divisors
from edgeq.models.rope import Rope
from edgeq.models.settings import Settings

DIVISORS = "rope_freqs.weight"
# Llama 3's scalings: a file has only the divisors that result from them.
_LLAMA3 = ((8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192))
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")


def config_of(header: Header, frequencies: np.ndarray | None) -> dict[str, Any]:
    """The configuration in transformers' words.

    frequencies: the tensor `rope_freqs.weight`, None without. Raises InvalidInput for an
    architecture that edgeq does not read, and for metadata that it does not understand.
    """
    architecture = str(header.get("general.architecture", ""))
    if architecture not in _FAMILIES:
        what = f"the architecture {architecture!r} is not supported as a source"
        remedy = (
            f"supported: {', '.join(_FAMILIES)}; of any architecture: "
            f"edgeq quantize {header.path.name} OUT.gguf --size SIZE --text TEXT"
        )
        raise InvalidInput(Problem(str(header.path), what, remedy))
    family, read = _FAMILIES[architecture]
    prefix = f"{architecture}."
    values = {key.removeprefix(prefix): header.get(key) for key in header.metadata}
    own = {key: values[key] for key in values if prefix + key in header.metadata}
    keys = Settings(own, str(header.path), "its metadata")
    keys.ignore(["vocab_size"])
    config = {"model_type": family, **_sizes(keys, header)}
    config |= _rope(keys, config, frequencies)
    config |= read(keys, config, header)
    problems = list(keys.unread())
    if problems:
        raise InvalidInput(problems)
    return config | token_settings(header)


def _sizes(keys: Settings, header: Header) -> dict[str, Any]:
    heads, hidden = keys.whole("attention.head_count"), keys.whole("embedding_length")
    width = keys.whole("attention.key_length", hidden // heads)
    if keys.whole("attention.value_length", width) != width:
        found = keys.get("attention.value_length")
        raise keys.unusable("attention.value_length", found, f"{width}, as of keys")
    table = header.tensors.get("token_embd.weight")
    if table is None:
        raise keys.error("it has no token_embd.weight", "download it again")
    return {
        "num_hidden_layers": keys.whole("block_count"),
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": _kv_heads(keys, heads),
        "head_dim": width,
        "intermediate_size": keys.whole("feed_forward_length"),
        "vocab_size": table.shape[0],
        "max_position_embeddings": keys.whole("context_length"),
        "rms_norm_eps": _short(keys.number("attention.layer_norm_rms_epsilon")),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "hidden_act": "silu",
    }


def _kv_heads(keys: Settings, heads: int) -> int:
    """The number of layers with attention; a file may have one for each layer, 0 without."""
    found = keys.get("attention.head_count_kv", heads)
    if isinstance(found, int):
        return keys.whole("attention.head_count_kv", heads)
    counts = sorted({int(count) for count in found} - {0})
    if len(counts) != 1:
        raise keys.unusable("attention.head_count_kv", counts, "one number")
    return counts[0]


def _short(value: float) -> float:
    """The decimal number that a float32 was rounded from."""
    return float(f"{value:.7g}")


def _rope(keys: Settings, config: dict[str, Any], frequencies: np.ndarray | None) -> dict[str, Any]:
    width = config["head_dim"]
    dim, theta = keys.whole("rope.dimension_count", width), keys.number("rope.freq_base", 1e4)
    found: dict[str, Any] = {"rope_theta": _short(theta)}
    if dim != width:
        found["partial_rotary_factor"] = dim / width
    kind = keys.get("rope.scaling.type", "none")
    factor = keys.number("rope.scaling.factor", 1.0)
    original = keys.get("rope.scaling.original_context_length")
    magnitude = keys.number("rope.scaling.attn_factor", 1.0)
    if frequencies is not None:
        found["rope_scaling"] = _llama3(keys, frequencies, theta, dim)
    elif kind == "linear":
        found["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    elif kind == "yarn":
        found["rope_scaling"] = {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "attention_factor": _short(magnitude * (0.1 * math.log(factor) + 1)),
        }
    elif kind != "none":
        raise keys.unusable("rope.scaling.type", kind, "none, linear or yarn")
    return found


def _llama3(keys: Settings, frequencies: np.ndarray, theta: float, dim: int) -> dict[str, Any]:
    for factor, low, high, original in _LLAMA3:
        rope = Rope("llama3", theta, dim, factor, original, low=low, high=high)
        wanted = divisors(rope)
        if wanted.shape == frequencies.shape and np.allclose(wanted, frequencies, rtol=1e-4):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
    what = f"{DIVISORS} is of no rope scaling that edgeq knows"
    raise keys.error(what, "use the model in Hugging Face's format")


def token_settings(header: Header) -> dict[str, Any]:
    ids = [header.get(f"tokenizer.ggml.{key}") for key in _ENDS]
    return {
        "bos_token_id": header.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": list(dict.fromkeys(id for id in ids if isinstance(id, int))),
    }


def _plain(keys: Settings, config: dict[str, Any], header: Header) -> dict[str, Any]:
    return {}


def _biased(keys: Settings, config: dict[str, Any], header: Header) -> dict[str, Any]:
    return {"attention_bias": "blk.0.attn_q.bias" in header.tensors}


def _granite(keys: Settings, config: dict[str, Any], header: Header) -> dict[str, Any]:
    names = {
        "embedding_multiplier": "embedding_scale",
        "attention_multiplier": "attention.scale",
        "residual_multiplier": "residual_scale",
        "logits_scaling": "logit_scale",
    }
    usual = config["head_dim"] ** -0.5
    factors = {
        own: _short(keys.number(name, usual if name == "attention.scale" else 1.0))
        for own, name in names.items()
    }
    return {**_biased(keys, config, header), **factors}


def _gemma2(keys: Settings, config: dict[str, Any], header: Header) -> dict[str, Any]:
    return {
        **_gemma(keys, config, "gemma2", 2),
        "attn_logit_softcapping": keys.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": keys.number("final_logit_softcapping", 30.0),
    }


def _gemma3(keys: Settings, config: dict[str, Any], header: Header) -> dict[str, Any]:
    return {
        **_gemma(keys, config, "gemma3_text", 6),
        "final_logit_softcapping": keys.optional("final_logit_softcapping"),
        "rope_local_base_freq": _short(keys.number("rope.freq_base_swa", 1e4)),
        "sliding_window_pattern": None,
    }


def _gemma(keys: Settings, config: dict[str, Any], family: str, period: int) -> dict[str, Any]:
    layers, width = config["num_hidden_layers"], config["head_dim"]
    if layers == SCALED_BY_HIDDEN[family]:
        width = config["hidden_size"] // config["num_attention_heads"]
    pattern = keys.get("attention.sliding_window_pattern", period)
    windowed = pattern
    if isinstance(pattern, int):
        windowed = [(layer + 1) % pattern != 0 for layer in range(layers)]
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": width,
        "sliding_window": keys.whole("attention.sliding_window"),
        "layer_types": ["sliding_attention" if each else "full_attention" for each in windowed],
    }


def _lfm2(keys: Settings, config: dict[str, Any], header: Header) -> dict[str, Any]:
    layers, counts = config["num_hidden_layers"], keys.get("attention.head_count_kv", 0)
    counts = [counts] * layers if isinstance(counts, int) else list(counts)
    return {
        "rms_norm_eps": None,
        "norm_eps": config["rms_norm_eps"],
        "hidden_act": None,
        "conv_L_cache": keys.whole("shortconv.l_cache"),
        "block_auto_adjust_ff_dim": False,
        "layer_types": ["full_attention" if count else "conv" for count in counts],
    }


_Reader = Callable[[Settings, dict[str, Any], Header], dict[str, Any]]
_FAMILIES: dict[str, tuple[str, _Reader]] = {
    "llama": ("llama", _biased),
    "qwen2": ("qwen2", _plain),
    "qwen3": ("qwen3", _biased),
    "gemma2": ("gemma2", _gemma2),
    "gemma3": ("gemma3_text", _gemma3),
    "smollm3": ("smollm3", _biased),
    "granite": ("granite", _granite),
    "olmo2": ("olmo2", _biased),
    "glm4": ("glm4", _biased),
    "lfm2": ("lfm2", _lfm2),
}
"""`model_type` of an architecture of llama.cpp's, and what it has beyond the common settings."""
