"""Settings that families share, in config.json's words."""

from __future__ import annotations

from typing import Literal

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.family import Family
from edgeq.models.rope import Rope, read_rope
from edgeq.models.settings import Settings

WHOLE, WINDOWED, LINEAR = "full_attention", "sliding_attention", "linear_attention"
ELSEWHERE = (
    "llama.cpp's convert_hf_to_gguf.py makes a GGUF file, and `edgeq quantize IN.gguf OUT.gguf "
    "--size SIZE --text TEXT` fits it"
)
"""The remedy for a model that no exporter computes."""
_MOST_TAPS = 64
_MOST_LAYERS = 10_000  # far beyond any model; a list as long as a file says could fill the memory
_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def read_llama(
    family: Family,
    config: Settings,
    *,
    rope: Rope | None = None,
    activation: str | None = "hidden_act",
    norm_eps: str = "rms_norm_eps",
    feed_forward: str | tuple[int, ...] = "intermediate_size",
) -> Decoder:
    """A decoder without biases, windows or factors; families replace what they have of these.

    rope: if the family reads it itself. activation, norm_eps, feed_forward: the keys of these, the
    first None if the family has no choice of it, the last the widths of every layer if the family
    reads them itself.
    """
    for key in family.required:
        config.need(key)
    hidden, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    layers = config.whole("num_hidden_layers", largest=_MOST_LAYERS)
    context = config.whole("max_position_embeddings")
    head_dim = head_width(config)
    widths = (config.whole(feed_forward),) if isinstance(feed_forward, str) else feed_forward
    return Decoder(
        family=family.name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(config, heads),
        head_dim=head_dim,
        feed_forward=max(widths),
        feed_forwards=widths if len(set(widths)) > 1 else (),
        vocabulary=config.whole("vocab_size"),
        context=context,
        norm_eps=config.number(norm_eps),
        activation=_activation(config, activation),
        tied=config.flag("tie_word_embeddings"),
        rope=rope or read_rope(config, head_dim, context),
        local_rope=None,
        rotates=(True,) * layers,
        interleaved=False,
        windows=(None,) * layers,
        attention_scale=head_dim**-0.5,
        query_growth=0.0,
        attention_softcap=None,
        embedding_scale=1.0,
        residual_scale=1.0,
        logit_scale=1.0,
        logit_softcap=None,
        norms=family.norms,
        norm_plus_one=False,
        qk_norm=None,
        qkv_bias=False,
        output_bias=False,
        fused_qkv=family.fused_qkv,
        fused_gate_up=family.fused_gate_up,
    )


def head_width(config: Settings) -> int:
    """Columns of a head; those of the hidden state divided by the heads if the file says none."""
    hidden, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    if "head_dim" not in config and hidden % heads:
        what = f"config.json: hidden_size {hidden} is not a multiple of {heads} heads"
        raise config.error(what, "download or save the model again")
    return config.whole("head_dim", hidden // heads)


def _kv_heads(config: Settings, heads: int) -> int:
    found = config.whole("num_key_value_heads", heads)
    if heads % found:
        what = f"config.json: {heads} heads cannot share {found} key-value heads"
        raise config.error(what, "download or save the model again")
    return found


def _activation(config: Settings, name: str | None) -> Literal["silu", "gelu_tanh"]:
    if name is None:
        return "silu"
    found = config.need(name)
    if not isinstance(found, str) or found not in _ACTIVATIONS:
        what = f"config.json: {name} {found!r} is not supported"
        raise config.error(what, f"use a model with one of: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[found]


def feed_forwards(config: Settings, key: str) -> tuple[int, ...]:
    """The width of every layer, of a family whose files may list them."""
    layers, found = config.whole("num_hidden_layers", largest=_MOST_LAYERS), config.need(key)
    if not isinstance(found, list):
        return (config.whole(key),) * layers
    if len(found) != layers or not all(type(n) is int and 0 < n < 2**31 for n in found):
        raise config.unusable(key, found, f"a whole number, or a list of {layers} of them")
    return tuple(found)


def lenders(config: Settings, kinds: list[str]) -> dict[int, int]:
    """For each of the last layers without keys and values of their own, the layer whose they take:
    the last of its type that has some.
    """
    shared, layers = config.get("num_kv_shared_layers", 0), len(kinds)
    if type(shared) is not int or not 0 <= shared < layers:
        raise config.unusable("num_kv_shared_layers", shared, f"a number below {layers}")
    last = {kind: layer for layer, kind in enumerate(kinds[: layers - shared])}
    for kind in kinds:
        if kind not in last:
            what = f"config.json: num_kv_shared_layers {shared} leaves no layer of {kind} to share"
            raise config.error(what, "download or save the model again")
    return {layer: last[kinds[layer]] for layer in range(layers - shared, layers)}


def refuse_bias(config: Settings, own: bool = False) -> None:
    """transformers ignores `attention_bias` in these families; their weights decide.

    own: whether the family has biases.
    """
    found = config.get("attention_bias", own)
    if found is not own:
        family = config.get("model_type")
        what = f"config.json: attention_bias {found!r} does not apply to a {family} model"
        raise config.error(what, "use a model without it")


def layer_types(
    config: Settings, usual: list[str], other: str = WINDOWED, stated_by: str = ""
) -> list[str]:
    """The type of every layer; `usual` if the file does not list them.

    other: the type besides `WHOLE`; if it is no attention, some layer must be `WHOLE`. stated_by:
    the key that `usual` is read from, which must not say something else.
    """
    found: list[str] = config.get("layer_types", usual)
    named = isinstance(found, list) and all(kind in (WHOLE, other) for kind in found)
    attends = other == WINDOWED or (named and WHOLE in found)
    if not named or not attends or len(found) != len(usual):
        wanted = f"a list of {len(usual)} of {WHOLE} and {other}"
        least = "" if other == WINDOWED else ", at least one of the first"
        raise config.unusable("layer_types", found, wanted + least)
    if stated_by in config and found != usual:
        what = f"config.json: layer_types and {stated_by} contradict each other"
        raise config.error(what, "delete the one that the model was not trained with")
    return found


def taps_of(config: Settings, key: str, usual: int | None = None) -> int:
    """How many positions a convolution covers."""
    taps = config.whole(key, usual, largest=_MOST_TAPS)
    if taps == 1:
        raise config.unusable(key, taps, "2 or more")
    return taps


def windows_of(kinds: list[str], window: float | None) -> tuple[int | None, ...]:
    """The window of every layer, by its type."""
    if window is None:
        return (None,) * len(kinds)
    return tuple(int(window) if kind == WINDOWED else None for kind in kinds)


def optional_windows(config: Settings, layers: int) -> tuple[int | None, ...]:
    """Windows of a family that has them only if `use_sliding_window` says so."""
    if not config.flag("use_sliding_window"):
        config.ignore(["sliding_window", "max_window_layers", "layer_types"])
        return (None,) * layers
    config.need("sliding_window")  # transformers would use 4,096
    first = config.get("max_window_layers", 28)
    usual = [WINDOWED if layer >= first else WHOLE for layer in range(layers)]
    return windows_of(layer_types(config, usual), config.optional("sliding_window"))
