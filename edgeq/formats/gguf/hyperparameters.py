"""A model's hyperparameters for llama.cpp's loaders, and what it cannot represent.

Keys, defaults and restrictions are those of llama.cpp's src/llama-arch.cpp and src/models; cases in
which a loader would silently deviate from the model are refused here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.header import MetaValue
from edgeq.models.architectures import FAMILIES, Decoder, LlamaCpp
from edgeq.models.architectures.altup import AltUp
from edgeq.models.architectures.delta import Delta
from edgeq.models.architectures.experts import Experts
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.rope import Rope
from edgeq.models.sentence_head import Normalize
from edgeq.quantize.number_formats import Floats

_POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}  # enum llama_pooling_type
# llama.cpp identifies these by their number of layers, and uses other divisors than elsewhere.
SCALED_BY_HIDDEN = {"gemma2": 46, "gemma3_text": 62}

# Of gemma3n: hidden states, the computed one and the rank of the second way around attention; gates
# set to zero, and layers with keys of their own.
_STATES, _SPARSE, _SPARSITY, _OWN_KEYS = (4, 0, 64), 10, 0.95, 20
_PER_LAYER, _CAP = 256, 30.0
_ROPES = ("default", "linear", "yarn")
# Divisors of the frequencies of columns that rotate, and of those that do not.
_OF_STILL = np.array([1, 1e30], np.float32)
_SIGMOID = 2  # enum llama_expert_gating_func_type
_YARN_BOUNDS = (1.0, 32.0, True)  # its keys for others do not reproduce transformers' results
_LONGROPE_NOTE = (
    "llama.cpp uses the long text's rotary angles as soon as the context it opens is longer than "
    "the original one; the model itself only if the text is"
)
_ALTUP_NOTE = (
    "in the first layers llama.cpp takes the deviation of {0} gates as √({0}/({0} - 1)) times what "
    "the model does, and keeps a little less of them"
)


@dataclass(frozen=True)
class Hyperparameters:
    """The file's metadata besides weights and vocabulary.

    metadata: keys without the architecture prefix. extra: small float32 tensors required by the
    loader, by their name in the file. notes: remarks for a reader.
    """

    metadata: dict[str, MetaValue]
    extra: dict[str, Floats] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def decoder_hyperparameters(decoder: Decoder, where: str) -> Hyperparameters:
    """Hyperparameters of a language model.

    Raises InvalidInput at `where` for a model that llama.cpp would run differently.
    """
    problems = [
        Problem(where, f"llama.cpp cannot run this {decoder.family} model: {what}", remedy)
        for what, remedy in _obstacles(decoder)
    ]
    if problems:
        raise InvalidInput(problems)
    context, notes = _context(decoder)
    metadata = {
        "block_count": _whole(decoder.layers),
        "context_length": _whole(context),
        "embedding_length": _whole(decoder.hidden),
        "feed_forward_length": _whole(decoder.feed_forward),
        "attention.head_count": _whole(decoder.heads),
        "attention.head_count_kv": _kv_heads(decoder),
        "attention.key_length": _whole(decoder.head_dim),
        "attention.value_length": _whole(decoder.head_dim),
        "attention.layer_norm_rms_epsilon": _real(decoder.norm_eps),
        "rope.dimension_count": _whole(decoder.rope_dim),
        "rope.freq_base": _real(decoder.rope.theta),
        "vocab_size": _whole(decoder.vocabulary),
    }
    if decoder.experts:
        metadata.update(_expert_keys(decoder, decoder.experts))
    if decoder.per_layer:
        metadata["embedding_length_per_layer_input"] = _whole(decoder.per_layer.width)
        metadata["attention.shared_kv_layers"] = _whole(len(decoder.borrowed))
    if decoder.altup:
        metadata["altup.num_inputs"] = _whole(decoder.altup.count)
        metadata["altup.active_idx"] = _whole(decoder.altup.active)
    if decoder.convolution:
        metadata["shortconv.l_cache"] = _whole(decoder.convolution.taps)
    if decoder.delta:
        metadata.update(_delta_keys(decoder, decoder.delta))
    metadata.update(_layered_keys(decoder) if _llama_cpp(decoder).layered else {})
    metadata.update(_window_keys(decoder))
    metadata.update(_factor_keys(decoder))
    if decoder.query_growth:
        metadata["attention.temperature_scale"] = _real(decoder.query_growth)
    if decoder.attention_softcap is not None:
        metadata["attn_logit_softcapping"] = _real(decoder.attention_softcap)
    if decoder.logit_softcap is not None:
        metadata["final_logit_softcapping"] = _real(decoder.logit_softcap)
    scaling, extra = _rope_scaling(decoder)
    if decoder.rope.kind == "longrope":
        notes = (*notes, _LONGROPE_NOTE)
    if decoder.altup:
        notes = (*notes, _ALTUP_NOTE.format(decoder.feed_forward))
    return Hyperparameters({**metadata, **scaling}, extra, notes)


_FOR_ONNX = "build this model for ONNX"


def encoder_hyperparameters(directory: ModelDirectory, where: str) -> Hyperparameters:
    """Hyperparameters of a BERT that embeds sentences. Raises InvalidInput for heads that llama.cpp
    does not have.
    """
    config, head = directory.config, directory.head
    problems = [
        Problem(where, f"llama.cpp cannot run this BERT: {what}", remedy)
        for what, remedy, found in (
            (
                f"{head.pooling} pooling",
                f"use one of {', '.join(_POOLING)}",
                head.pooling not in _POOLING,
            ),
            ("a prompt left out of the pooling", _FOR_ONNX, bool(head.skipped)),
            ("a WeightedLayerPooling module", _FOR_ONNX, head.mix is not None),
            *(
                (f"a {type(layer).__name__} module", _FOR_ONNX, True)
                for layer in head.layers
                if layer != Normalize()
            ),
            (
                f"hidden_act {config.get('hidden_act')!r}",
                "use a model with gelu",
                config.get("hidden_act", "gelu") != "gelu",
            ),
            (
                f"position_embedding_type {config.get('position_embedding_type')!r}",
                "use a model with absolute positions",
                config.get("position_embedding_type", "absolute") != "absolute",
            ),
        )
        if found
    ]
    if problems:
        raise InvalidInput(problems)
    metadata = {
        "block_count": _whole(config["num_hidden_layers"]),
        "context_length": _whole(config["max_position_embeddings"]),
        "embedding_length": _whole(config["hidden_size"]),
        "feed_forward_length": _whole(config["intermediate_size"]),
        "attention.head_count": _whole(config["num_attention_heads"]),
        "attention.layer_norm_epsilon": _real(config.get("layer_norm_eps", 1e-12)),
        "attention.causal": MetaValue("bool", False),
        "pooling_type": _whole(_POOLING[head.pooling]),
    }
    return Hyperparameters(metadata)


def _whole(value: int) -> MetaValue:
    return MetaValue("uint32", int(value))


def _kv_heads(decoder: Decoder) -> MetaValue:
    """One number, or one for each layer if some have no attention."""
    if decoder.convolution is None:  # the places of linear attention have a key of their own
        return _whole(decoder.kv_heads)
    counts = [decoder.kv_heads if decoder.attends(n) else 0 for n in range(decoder.layers)]
    return MetaValue("array", np.array(counts, np.int32), "int32")


def _layered_keys(decoder: Decoder) -> dict[str, MetaValue]:
    """Sizes of layers with a window and without one, and which are which."""
    layers, local = range(decoder.layers), decoder.local_rope
    assert local is not None
    windowed = np.array([window is not None for window in decoder.windows])
    widths = decoder.feed_forwards or (decoder.feed_forward,) * decoder.layers
    heads = [decoder.kv_heads_of(layer) for layer in layers]
    whole = next(layer for layer in layers if decoder.windows[layer] is None)
    own = _whole(decoder.head_dim_of(whole))
    return {
        **dict.fromkeys(("attention.key_length", "attention.value_length"), own),
        **dict.fromkeys(
            ("attention.key_length_swa", "attention.value_length_swa"), _whole(decoder.head_dim)
        ),
        "attention.head_count_kv": MetaValue("array", np.array(heads, np.int32), "int32"),
        "feed_forward_length": MetaValue("array", np.array(widths, np.int32), "int32"),
        "attention.sliding_window": _whole(_windows(decoder)[0]),
        "attention.sliding_window_pattern": MetaValue("array", windowed, "bool"),
        "attention.shared_kv_layers": _whole(len(decoder.borrowed)),
        "embedding_length_per_layer_input": _whole(
            decoder.per_layer.width if decoder.per_layer else 0
        ),
        "rope.dimension_count_swa": _whole(local.dim),
        "rope.freq_base_swa": _real(local.theta),
    }


def _delta_keys(decoder: Decoder, delta: Delta) -> dict[str, MetaValue]:
    half = decoder.rope_dim // 2
    # How an image's three positions share the columns; a text's are equal.
    sections = np.array([*((half + 2 - place) // 3 for place in range(3)), 0], np.int32)
    return {
        "ssm.conv_kernel": _whole(delta.taps),
        "ssm.inner_size": _whole(delta.value),
        "ssm.state_size": _whole(delta.key_width),
        "ssm.time_step_rank": _whole(delta.value_heads),
        "ssm.group_count": _whole(delta.key_heads),
        "full_attention_interval": _whole(_interval(decoder)),
        "rope.dimension_sections": MetaValue("array", sections, "int32"),
    }


def _expert_keys(decoder: Decoder, experts: Experts) -> dict[str, MetaValue]:
    keys = {
        "expert_count": _whole(experts.count),
        "expert_used_count": _whole(experts.used),
        "expert_feed_forward_length": _whole(experts.width),
    }
    if experts.shared:
        keys["expert_shared_feed_forward_length"] = _whole(experts.shared)
    if _llama_cpp(decoder).dense_first:
        keys["leading_dense_block_count"] = _whole(min(experts.layers))
    if experts.sigmoid:
        keys["expert_gating_func"] = _whole(_SIGMOID)
    return keys


def _expert_obstacles(decoder: Decoder, experts: Experts) -> Iterator[tuple[str, str]]:
    onnx = "build this model for ONNX"
    if not experts.normalized:
        yield "the shares of its experts do not add up to one", onnx
    if experts.scale != 1:
        yield "the shares of its experts have a factor", onnx
    first = min(experts.layers) if _llama_cpp(decoder).dense_first else 0
    if experts.layers != frozenset(range(first, decoder.layers)):
        yield "only some of its layers have experts", onnx


def _interval(decoder: Decoder) -> int:
    """p if every p-th layer, and no other, has attention; 0 otherwise."""
    attend = [layer + 1 for layer in range(decoder.layers) if decoder.attends(layer)]
    regular = range(attend[0], decoder.layers + 1, attend[0])
    return attend[0] if attend == list(regular) else 0


def _delta_obstacles(decoder: Decoder, delta: Delta) -> Iterator[tuple[str, str]]:
    onnx = "build this model for ONNX"
    if delta.key_width != delta.value_width:
        yield "the heads of its keys and of its values differ in width", onnx
    if not _interval(decoder):
        yield "its layers with attention are not regularly spaced", onnx


def _real(value: float) -> MetaValue:
    return MetaValue("float32", float(value))


def _llama_cpp(decoder: Decoder) -> LlamaCpp:
    return FAMILIES[decoder.family].llama_cpp


def _obstacles(decoder: Decoder) -> Iterator[tuple[str, str]]:
    other = "use another model"
    known = _llama_cpp(decoder)
    if decoder.qkv_bias and not known.attention_bias:
        yield "its attention has biases", other
    if decoder.activation != ("gelu_tanh" if known.gelu else "silu"):
        yield f"its activation is {decoder.activation}", other
    if decoder.rope_dim != decoder.head_dim and not (known.part_of_head or known.layered):
        yield "its rotary positions rotate a part of each head", other
    if known.square and decoder.heads * decoder.head_dim != decoder.hidden:
        yield f"{decoder.heads} heads of {decoder.head_dim} are not {decoder.hidden}", other
    if decoder.query_growth and not known.growth:
        yield "its queries grow with their position", other
    if decoder.rotates != _rotates(known, decoder.layers):
        yield "its layers without positions are at other places than llama.cpp's", other
    if known.layered and (len(set(_windows(decoder))) != 1 or decoder.rope.kind != "proportional"):
        yield "its layers are not of two types, with a window and a proportional rope", other
    if known.period is not None and _windows(decoder) and _period(decoder) is None:
        yield "its layers with a window are not regularly spaced", other
    if decoder.experts:
        yield from _expert_obstacles(decoder, decoder.experts)
    if decoder.convolution and decoder.convolution.bias:
        yield "its convolutions have biases", other
    if decoder.delta:
        yield from _delta_obstacles(decoder, decoder.delta)
    yield from _rope_obstacles(decoder, other)
    if decoder.family in SCALED_BY_HIDDEN:
        yield from _gemma_obstacles(decoder, other)
    yield from _borrowing_obstacles(decoder)
    if decoder.feed_forwards and not known.layered:
        yield "its feed-forward layers differ in width", "build this model for ONNX"
    if decoder.altup:
        yield from _altup_obstacles(decoder, decoder.altup)


def _rotates(known: LlamaCpp, layers: int) -> tuple[bool, ...]:
    still = known.still or layers + 1
    return tuple((layer + 1) % still != 0 for layer in range(layers))


def _gemma_obstacles(decoder: Decoder, other: str) -> Iterator[tuple[str, str]]:
    width: float = decoder.head_dim
    if decoder.layers == SCALED_BY_HIDDEN[decoder.family]:
        width = decoder.hidden // decoder.heads
    if not math.isclose(decoder.attention_scale, width**-0.5, rel_tol=1e-6):
        yield f"query_pre_attn_scalar is {decoder.attention_scale**-2:g}, not {width:g}", other
    if decoder.family == "gemma2":
        if decoder.attention_softcap is None or decoder.logit_softcap is None:
            yield "it does not cap logits", other
        if not decoder.tied:
            yield "its output weights are separate", other
    elif decoder.attention_softcap is not None:
        yield "it caps attention logits", other
    if not _windows(decoder):
        yield "none of its layers has a window", other


def _borrowing_obstacles(decoder: Decoder) -> Iterator[tuple[str, str]]:
    """llama.cpp's borrowers take the keys of the last two layers that have their own."""
    own = decoder.layers - len(decoder.borrowed)
    taken = {(decoder.windows[n] is None, lender) for n, lender in decoder.borrowed.items()}
    if taken - {(False, own - 2), (True, own - 1)}:
        what = "the last layers with keys of their own are not one with a window and one without"
        yield what, "build this model for ONNX"


def _altup_obstacles(decoder: Decoder, altup: AltUp) -> Iterator[tuple[str, str]]:
    """What llama.cpp does not read from the file of such a model, but has as constants."""
    onnx = "build this model for ONNX"
    states = (altup.count, altup.active, altup.rank)
    if states != _STATES or not altup.scaled:
        yield "its hidden states are others than those of the published models", onnx
    sparse = [layer for layer, share in enumerate(altup.sparsity) if share]
    if sparse != list(range(_SPARSE)) or altup.sparsity[0] != _SPARSITY:
        yield f"other gates are set to zero than {_SPARSITY} in the first {_SPARSE} layers", onnx
    if decoder.layers - len(decoder.borrowed) != _OWN_KEYS:
        yield f"other layers than the first {_OWN_KEYS} have keys of their own", onnx
    if decoder.per_layer and decoder.per_layer.width != _PER_LAYER:
        yield f"the embeddings of its layers are not {_PER_LAYER} wide", onnx
    if decoder.logit_softcap != _CAP:
        yield f"its logits are not capped at {_CAP:g}", onnx
    if not _windows(decoder):
        yield "none of its layers has a window", onnx


def _windows(decoder: Decoder) -> list[int]:
    return [window for window in decoder.windows if window is not None]


def _period(decoder: Decoder) -> int | None:
    """p if every p-th layer, and no other, has no window; None otherwise."""
    full = [index for index, window in enumerate(decoder.windows) if window is None]
    period = full[0] + 1 if full else decoder.layers + 1
    widths = set(_windows(decoder))
    regular = [index for index in range(decoder.layers) if (index + 1) % period == 0]
    return period if full == regular and len(widths) == 1 else None


def _window_keys(decoder: Decoder) -> dict[str, MetaValue]:
    """Windows, and how often a layer has none if it is not what llama.cpp assumes."""
    usual, windows = _llama_cpp(decoder).period, _windows(decoder)
    if usual is None or not windows:
        return {}
    keys = {"attention.sliding_window": _whole(windows[0])}
    period = _period(decoder)
    assert period is not None
    if period != usual:
        keys["attention.sliding_window_pattern"] = _whole(period)
    if decoder.local_rope is not None:
        keys["rope.freq_base_swa"] = _real(decoder.local_rope.theta)
    return keys


def _factor_keys(decoder: Decoder) -> dict[str, MetaValue]:
    """Factors that are settings in llama.cpp; in other families they follow from sizes."""
    if not _llama_cpp(decoder).factors:
        return {}
    return {
        "embedding_scale": _real(decoder.embedding_scale),
        "attention.scale": _real(decoder.attention_scale),
        "residual_scale": _real(decoder.residual_scale),
        "logit_scale": _real(1 / decoder.logit_scale),
    }


def _context(decoder: Decoder) -> tuple[int, tuple[str, ...]]:
    """Context length of the file: at most a window if llama.cpp would ignore the window.

    Up to that length the model attends to everything with and without one.
    """
    windows, known = _windows(decoder), _llama_cpp(decoder)
    knows_windows = known.period is not None or known.layered
    if knows_windows or min(windows, default=decoder.context) >= decoder.context:
        return decoder.context, ()
    context = min(windows)
    note = (
        f"context_length is {context}, not {decoder.context}: the model attends to {context} "
        f"positions, and llama.cpp's {known.architecture} has no windows"
    )
    return context, (note,)


def _rope_scaling(decoder: Decoder) -> tuple[dict[str, MetaValue], dict[str, Floats]]:
    """Keys and small tensors of a stretched rope."""
    rope = decoder.rope
    if rope.kind == "linear":
        return {**_stretched("linear", rope)}, {}
    if rope.kind == "llama3":
        return {}, {"rope_freqs.weight": divisors(rope)}
    if rope.kind == "proportional":
        turning = rope.dim // 2 - rope.still
        return {}, {"rope_freqs.weight": np.repeat(_OF_STILL, [turning, rope.still])}
    if rope.kind == "yarn":
        return _yarn_keys(rope), {}
    if decoder.family != "phi3":
        return {}, {}
    keys = {"rope.scaling.original_context_length": _whole(rope.original)}
    if rope.kind != "longrope":
        return keys, {}
    keys["rope.scaling.attn_factor"] = _real(rope.magnitude)
    factors = {"long": rope.long, "short": rope.short}
    tensors = {
        f"rope_factors_{name}.weight": np.asarray(values, np.float32)
        for name, values in factors.items()
    }
    return keys, tensors


def _rope_obstacles(decoder: Decoder, other: str) -> Iterator[tuple[str, str]]:
    rope, local = decoder.rope, decoder.local_rope
    if rope.kind not in (*_ROPES, *_llama_cpp(decoder).ropes):
        able = [name for name, family in FAMILIES.items() if rope.kind in family.llama_cpp.ropes]
        yield f"the rope_type {rope.kind} is supported only for {', '.join(able)}", other
    if rope.kind == "yarn" and (rope.low, rope.high, rope.rounded) != _YARN_BOUNDS:
        bounds = f"{_YARN_BOUNDS[:2]}, rounded to whole columns"
        yield f"its yarn rope has other bounds than {bounds}", "build this model for ONNX"
    if local is not None and local.kind != "default":
        yield f"its windowed layers have the rope_type {local.kind}", other
    if rope.kind == "yarn" and decoder.family in SCALED_BY_HIDDEN:
        yield "only its layers without a window have the rope_type yarn", other


def _stretched(kind: str, rope: Rope) -> dict[str, MetaValue]:
    text = MetaValue("string", kind)
    return {"rope.scaling.type": text, "rope.scaling.factor": _real(rope.factor)}


def _yarn_keys(rope: Rope) -> dict[str, MetaValue]:
    """llama.cpp multiplies the factor by its own magnitude."""
    own = 0.1 * math.log(rope.factor) + 1
    return {
        **_stretched("yarn", rope),
        "rope.scaling.original_context_length": _whole(rope.original),
        "rope.scaling.attn_factor": _real(rope.magnitude / own),
    }


def divisors(rope: Rope) -> Floats:
    """The divisor of each rotation's frequency: 1 for fast ones, `factor` for slow ones.

    Between, frequencies are blended (Llama 3.1's model card). float32 `(rope_dim / 2,)`.
    """
    exponents = np.arange(0, rope.dim, 2, dtype=np.float32) / np.float32(rope.dim)
    frequencies = 1 / np.float32(rope.theta) ** exponents
    turns = rope.original * frequencies / (2 * math.pi)
    kept = np.clip((turns - rope.low) / (rope.high - rope.low), 0, 1)
    return np.asarray(1 / ((1 - kept) / rope.factor + kept), np.float32)
