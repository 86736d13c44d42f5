"""A language model's architecture, read from `config.json` once for all exporters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.known_keys import DECODER_FIXED, HARMLESS
from edgeq.models.rope import Rope, read_ropes
from edgeq.models.settings import Settings

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
_MOST_LAYERS = 10_000  # far beyond any model; a list as long as a file says could fill the memory
_OPTIONAL_BIAS = ("llama", "qwen3", "gemma2", "gemma3_text")
_WHOLE, _WINDOWED = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Decoder:
    """A decoder-only transformer with rotary positions and a gated feed-forward layer.

    heads, kv_heads: of queries, and of keys and values; head_dim: width of each. context: trained
    length. rope: rotation of queries and keys by position; local_rope: in windowed layers if it
    differs. windows: for each layer the number of positions it attends to, including its own, None
    for all. attention_scale: factor of query·key. embedding_scale: factor of token vectors.
    *_softcap: c in c·tanh(x/c), None without. norm_plus_one: norms multiply by 1 + weight.
    post_norms: norms after attention and feed-forward too. qk_norms: norms of each head's queries
    and keys. fused: q, k, v are one tensor, and so are gate and up.
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
    rope: Rope
    local_rope: Rope | None
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

    @property
    def rope_dim(self) -> int:
        """Columns of a head that rotate with the position."""
        return self.rope.dim

    def cache_bytes_per_token(self, bytes_per_value: float) -> float:
        """Keys and values of one position in every layer, ignoring windows."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_value

    def cache_bytes(self, context: int, bytes_per_value: float) -> float:
        """Keys and values of `context` positions; windowed layers keep no more than their window.

        For a runtime that allocates whole windows; one that keeps every position of every layer
        stores `context × cache_bytes_per_token`.
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
    """Parse a `config.json`; `where` is the place that errors name.

    Raises InvalidInput for an unsupported architecture, naming the supported ones, and for settings
    of a supported one that no exporter implements.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        what = f"the architecture {family!r} is not supported"
        raise InvalidInput(Problem(where, what, f"supported: {', '.join(FAMILIES)}"))
    settings = Settings(config, where, "config.json")
    settings.ignore(HARMLESS)
    problems = list(settings.unsupported(DECODER_FIXED))
    if problems:
        raise InvalidInput(problems)
    decoder = _decoder(family, settings)
    problems = list(settings.unread())
    if problems:
        raise InvalidInput(problems)
    return decoder


def _decoder(family: Family, config: Settings) -> Decoder:
    config.get("model_type")
    hidden, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    layers = config.whole("num_hidden_layers", largest=_MOST_LAYERS)
    context = config.whole("max_position_embeddings")
    gemma = family in ("gemma2", "gemma3_text")
    head_dim = _head_dim(family, config, hidden, heads)
    bias = family == "qwen2" or (family in _OPTIONAL_BIAS and config.flag("attention_bias"))
    if family not in _OPTIONAL_BIAS:
        _refuse_bias(family, config)
    rope, local_rope = read_ropes(config, head_dim, context)
    scalar = config.number("query_pre_attn_scalar") if gemma else head_dim
    return Decoder(
        family=family,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(family, config, heads),
        head_dim=head_dim,
        feed_forward=config.whole("intermediate_size"),
        vocabulary=config.whole("vocab_size"),
        context=context,
        norm_eps=config.number("rms_norm_eps"),
        activation=_activation(gemma, config),
        # Gemma's configurations omit it; transformers then uses True
        tied=config.flag("tie_word_embeddings", gemma),
        rope=rope,
        local_rope=local_rope,
        windows=_windows(family, config, layers),
        attention_scale=scalar**-0.5,
        attention_softcap=_softcap(family, config, "attn_logit_softcapping"),
        logit_softcap=_softcap(family, config, "final_logit_softcapping"),
        embedding_scale=hidden**0.5 if gemma else 1.0,
        norm_plus_one=gemma,
        post_norms=gemma,
        qk_norms=family in ("qwen3", "gemma3_text"),
        qkv_bias=bias,
        output_bias=bias and family != "qwen2",
        fused=family == "phi3",
    )


def _refuse_bias(family: Family, config: Settings) -> None:
    """transformers ignores the key in these families; weights decide, and they have no biases."""
    if config.get("attention_bias", family == "qwen2") is not (family == "qwen2"):
        wrong = config.get("attention_bias")
        what = f"config.json: attention_bias {wrong!r} does not apply to a {family} model"
        raise config.error(what, "use a model without it")


def _head_dim(family: Family, config: Settings, hidden: int, heads: int) -> int:
    """Some families have a default width if the file does not state it."""
    if family in ("qwen3", "gemma2", "gemma3_text"):
        return config.whole("head_dim")
    if "head_dim" not in config and hidden % heads:
        what = f"config.json: hidden_size {hidden} is not a multiple of {heads} heads"
        raise config.error(what, "download or save the model again")
    return config.whole("head_dim", hidden // heads)


def _kv_heads(family: Family, config: Settings, heads: int) -> int:
    if family not in ("llama", "phi3"):
        config.need("num_key_value_heads")  # transformers would use a different default for each
    found = config.whole("num_key_value_heads", heads)
    if heads % found:
        what = f"config.json: {heads} heads cannot share {found} key-value heads"
        raise config.error(what, "download or save the model again")
    return found


def _activation(gemma: bool, config: Settings) -> Literal["silu", "gelu_tanh"]:
    """Gemma's first configurations have an older key without meaning."""
    names = ("hidden_activation", "hidden_act") if gemma else ("hidden_act",)
    name = next((name for name in names if name in config), names[-1])
    found = config.need(name)
    if not isinstance(found, str) or found not in _ACTIVATIONS:
        what = f"config.json: {name} {found!r} is not supported"
        raise config.error(what, f"use a model with one of: {', '.join(_ACTIVATIONS)}")
    config.ignore(names)
    return _ACTIVATIONS[found]


def _softcap(family: Family, config: Settings, name: str) -> float | None:
    if family == "gemma2":
        config.need(name)
    return config.optional(name) if family in ("gemma2", "gemma3_text") else None


def _windows(family: Family, config: Settings, layers: int) -> tuple[int | None, ...]:
    if family == "llama":
        return (None,) * layers
    qwen = family in ("qwen2", "qwen3")
    is_used = not qwen or config.flag("use_sliding_window")
    if not is_used:
        config.ignore(["sliding_window", "max_window_layers", "layer_types"])
        return (None,) * layers
    if family != "phi3":
        config.need("sliding_window")  # transformers would use 4,096
    window = config.optional("sliding_window")
    kinds = _layer_types(family, config, layers)
    if window is None:
        return (None,) * layers
    return tuple(int(window) if kind == _WINDOWED else None for kind in kinds)


def _layer_types(family: Family, config: Settings, layers: int) -> list[str]:
    """Which layers have a window; if a file does not list them, transformers' default."""
    every = config.get("sliding_window_pattern", config.get("_sliding_window_pattern", 6))
    first = config.get("max_window_layers", 28)
    if family in ("mistral", "phi3"):
        kinds = [_WINDOWED] * layers
    elif family == "gemma2":
        kinds = [_WHOLE if layer % 2 else _WINDOWED for layer in range(layers)]
    elif family == "gemma3_text":
        kinds = [_WINDOWED if (layer + 1) % every else _WHOLE for layer in range(layers)]
    else:
        kinds = [_WINDOWED if layer >= first else _WHOLE for layer in range(layers)]
    found: list[str] = config.get("layer_types", kinds)
    named = isinstance(found, list) and all(kind in (_WINDOWED, _WHOLE) for kind in found)
    if not named or len(found) != layers:
        wanted = f"a list of {layers} of {_WHOLE} and {_WINDOWED}"
        raise config.unusable("layer_types", found, wanted)
    if family in ("mistral", "phi3") and found != kinds:
        raise config.unusable("layer_types", found, "what every layer of the family has")
    return found


DEFAULT_CONTEXT = 4096
"""Default context length, or the trained length if shorter: llama.cpp allocates
the whole KV cache at once, and models are trained for up to a million positions."""
