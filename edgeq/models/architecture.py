"""What a language model's `config.json` says it is: the one reading that every exporter shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.validation_messages import suggest

Family = Literal["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3"]
"""`model_type` in config.json. SmolLM2 is a llama."""

FAMILIES: tuple[Family, ...] = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "phi3",
)
_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


_ROPE_SETTINGS = {
    "linear": ("factor",),
    "llama3": (
        *("factor", "low_freq_factor", "high_freq_factor"),
        "original_max_position_embeddings",
    ),
    "longrope": ("short_factor", "long_factor"),
}


@dataclass(frozen=True)
class Decoder:
    """A decoder-only transformer with rotary positions and a gated feed-forward layer.

    heads, kv_heads: of queries, and of keys and values; head_dim: width of each. context: positions
    it was trained for. rope_scaling: as in config.json, None without. rope_local_theta: the base of
    windowed layers where it differs. windows: for each layer the positions it looks back, itself
    included, None for all. attention_scale: what query·key is multiplied by. embedding_scale: what
    token vectors are multiplied by. *_softcap: c in c·tanh(x/c), None without. norm_plus_one: norms
    multiply by 1 + weight. post_norms: norms behind attention and feed-forward too. qk_norms: norms
    of each head's queries and keys. fused: q, k, v are one tensor, and so are gate and up.
    """

    family: Family
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    context: int
    norm_eps: float
    activation: Literal["silu", "gelu_tanh"]
    tied: bool
    rope_theta: float
    rope_local_theta: float | None
    rope_scaling: Mapping[str, Any] | None
    rope_dim: int
    windows: tuple[int | None, ...]
    attention_scale: float
    attention_softcap: float | None
    logit_softcap: float | None
    embedding_scale: float
    norm_plus_one: bool
    post_norms: bool
    qk_norms: bool
    qkv_bias: bool
    output_bias: bool
    fused: bool

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every weight, by its Hugging Face name, with its shape (outputs or tokens first)."""
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden)
        }
        for layer in range(self.layers):
            own = self._layer_tensors()
            shapes.update({f"model.layers.{layer}.{name}": own[name] for name in own})
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocabulary, self.hidden)
        return shapes

    def cache_bytes_per_token(self, bytes_per_value: float) -> float:
        """Keys and values of one position in every layer, not counting that windows end."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_value

    def cache_bytes(self, context: int, bytes_per_value: float) -> float:
        """Keys and values of `context` positions; windowed layers keep no more than their window.

        What a runtime that allocates whole windows would hold; one that keeps every position of
        every layer holds `context × cache_bytes_per_token`.
        """
        positions = sum(min(context, window or context) for window in self.windows)
        return 2 * positions * self.kv_heads * self.head_dim * bytes_per_value

    def _layer_tensors(self) -> dict[str, tuple[int, ...]]:
        hidden, wide = self.hidden, self.feed_forward
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (hidden,)}
        if self.fused:
            shapes["self_attn.qkv_proj.weight"] = (query + 2 * key, hidden)
        else:
            for name, rows in (("q", query), ("k", key), ("v", key)):
                shapes[f"self_attn.{name}_proj.weight"] = (rows, hidden)
                if self.qkv_bias:
                    shapes[f"self_attn.{name}_proj.bias"] = (rows,)
        if self.qk_norms:
            shapes["self_attn.q_norm.weight"] = (self.head_dim,)
            shapes["self_attn.k_norm.weight"] = (self.head_dim,)
        shapes["self_attn.o_proj.weight"] = (hidden, query)
        if self.output_bias:
            shapes["self_attn.o_proj.bias"] = (hidden,)
        shapes["post_attention_layernorm.weight"] = (hidden,)
        if self.post_norms:
            shapes["pre_feedforward_layernorm.weight"] = (hidden,)
            shapes["post_feedforward_layernorm.weight"] = (hidden,)
        if self.fused:
            shapes["mlp.gate_up_proj.weight"] = (2 * wide, hidden)
        else:
            shapes["mlp.gate_proj.weight"] = (wide, hidden)
            shapes["mlp.up_proj.weight"] = (wide, hidden)
        shapes["mlp.down_proj.weight"] = (hidden, wide)
        return shapes


def decoder_of(config: Mapping[str, Any], where: str) -> Decoder:
    """Read a `config.json`; `where` is the place that errors name.

    Raises InvalidInput for an architecture that is not supported, naming those that are, and for
    settings of a supported one that no exporter carries out.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        what = f"the architecture {family!r} is not supported"
        near = suggest(str(family), FAMILIES)
        raise InvalidInput(Problem(where, what, f"supported: {', '.join(FAMILIES)} ({near})"))
    _refuse_unknown_settings(config, where)
    try:
        return _decoder(family, config)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        what = f"config.json of a {family} model lacks or misstates {error}"
        raise InvalidInput(Problem(where, what, "download or save the model again")) from None


def _refuse_unknown_settings(config: Mapping[str, Any], where: str) -> None:
    activation = config.get("hidden_activation") or config.get("hidden_act")
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    refused = {
        "mlp_bias": bool(config.get("mlp_bias")),
        f"hidden_act {activation!r}": activation not in _ACTIVATIONS,
        f"rope_scaling {kind!r}": kind not in ("default", "linear", "llama3", "longrope"),
        "quantization_config": "quantization_config" in config,
        f"rope_scaling {kind!r} without its settings": kind in _ROPE_SETTINGS
        and not all(key in scaling for key in _ROPE_SETTINGS[kind]),
    }
    problems = [
        Problem(where, f"config.json: {name} is not supported", "use a model without it")
        for name, found in refused.items()
        if found
    ]
    if problems:
        raise InvalidInput(problems)


def _decoder(family: Family, config: Mapping[str, Any]) -> Decoder:
    hidden, heads, layers = (
        int(config[name]) for name in ("hidden_size", "num_attention_heads", "num_hidden_layers")
    )
    head_dim = int(config.get("head_dim") or hidden // heads)
    gemma = family in ("gemma2", "gemma3_text")
    bias = family == "qwen2" or bool(config.get("attention_bias", False))
    scaling = config.get("rope_scaling")
    if scaling and scaling.get("rope_type", scaling.get("type")) == "default":
        scaling = None
    return Decoder(
        family=family,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=head_dim,
        feed_forward=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        context=int(config["max_position_embeddings"]),
        norm_eps=float(config["rms_norm_eps"]),
        activation=_ACTIVATIONS[config.get("hidden_activation") or config["hidden_act"]],
        # Gemma's configurations leave it out, where transformers takes True.
        tied=bool(config.get("tie_word_embeddings", gemma)),
        rope_theta=float(config.get("rope_theta", 1e6 if family == "gemma3_text" else 1e4)),
        rope_local_theta=(
            float(config.get("rope_local_base_freq", 1e4)) if family == "gemma3_text" else None
        ),
        rope_scaling=scaling,
        rope_dim=int(head_dim * float(config.get("partial_rotary_factor") or 1)),
        windows=_windows(family, config, layers),
        attention_scale=float(config.get("query_pre_attn_scalar") or head_dim) ** -0.5
        if gemma
        else head_dim**-0.5,
        attention_softcap=_number(config, "attn_logit_softcapping") if gemma else None,
        logit_softcap=_number(config, "final_logit_softcapping") if gemma else None,
        embedding_scale=hidden**0.5 if gemma else 1.0,
        norm_plus_one=gemma,
        post_norms=gemma,
        qk_norms=family in ("qwen3", "gemma3_text"),
        qkv_bias=bias,
        output_bias=bias and family != "qwen2",
        fused=family == "phi3",
    )


def _number(config: Mapping[str, Any], name: str) -> float | None:
    value = config.get(name)
    return None if value is None else float(value)


def _windows(family: Family, config: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    window = config.get("sliding_window")
    if not window or (family in ("qwen2", "qwen3") and not config.get("use_sliding_window")):
        return (None,) * layers
    kinds = config.get("layer_types")
    if kinds is None:
        kinds = _default_layer_types(family, config, layers)
    return tuple(int(window) if kind == "sliding_attention" else None for kind in kinds)


def _default_layer_types(family: Family, config: Mapping[str, Any], layers: int) -> list[str]:
    """Where a configuration does not list them: as transformers 4.57 fills them in."""
    if family == "gemma2":
        return ["full_attention" if layer % 2 else "sliding_attention" for layer in range(layers)]
    if family == "gemma3_text":
        every = int(config.get("sliding_window_pattern", 6))
        return [
            "sliding_attention" if (layer + 1) % every else "full_attention"
            for layer in range(layers)
        ]
    if family in ("qwen2", "qwen3"):
        first = int(config.get("max_window_layers", 28))
        return [
            "sliding_attention" if layer >= first else "full_attention" for layer in range(layers)
        ]
    return ["sliding_attention"] * layers


DEFAULT_CONTEXT = 4096
"""Positions a model is opened for unless it is told, or was trained for fewer: llama.cpp allocates
the keys and values of all of them at once, and models are trained for up to a million."""
