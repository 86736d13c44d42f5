"""A model's hyperparameters for llama.cpp's loaders.

Keys and defaults are those of llama.cpp's src/llama-arch.cpp and src/models.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.layers import (
    attention_interval,
    llama_cpp_of,
    period_without_window,
    windows_of,
)
from edgeq.formats.gguf.obstacles import obstacles
from edgeq.formats.gguf.rope_keys import rope_scaling
from edgeq.formats.gguf.values import MetaValue, real_number, whole_number
from edgeq.models.architectures import Decoder
from edgeq.models.architectures.delta import Delta
from edgeq.models.architectures.experts import Experts
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.sentence_head import Normalize
from edgeq.quantize.number_formats import Floats

_POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}  # enum llama_pooling_type
_SIGMOID = 2  # enum llama_expert_gating_func_type
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
        for what, remedy in obstacles(decoder)
    ]
    if problems:
        raise InvalidInput(problems)
    context, notes = _context(decoder)
    metadata = {
        "block_count": whole_number(decoder.layers),
        "context_length": whole_number(context),
        "embedding_length": whole_number(decoder.hidden),
        "feed_forward_length": whole_number(decoder.feed_forward),
        "attention.head_count": whole_number(decoder.heads),
        "attention.head_count_kv": _kv_heads(decoder),
        "attention.key_length": whole_number(decoder.head_dim),
        "attention.value_length": whole_number(decoder.head_dim),
        "attention.layer_norm_rms_epsilon": real_number(decoder.norm_eps),
        "rope.dimension_count": whole_number(decoder.rope_dim),
        "rope.freq_base": real_number(decoder.rope.theta),
        "vocab_size": whole_number(decoder.vocabulary),
    }
    if decoder.experts:
        metadata.update(_expert_keys(decoder, decoder.experts))
    if decoder.per_layer:
        metadata["embedding_length_per_layer_input"] = whole_number(decoder.per_layer.width)
        metadata["attention.shared_kv_layers"] = whole_number(len(decoder.borrowed))
    if decoder.altup:
        metadata["altup.num_inputs"] = whole_number(decoder.altup.count)
        metadata["altup.active_idx"] = whole_number(decoder.altup.active)
    if decoder.convolution:
        metadata["shortconv.l_cache"] = whole_number(decoder.convolution.taps)
    if decoder.delta:
        metadata.update(_delta_keys(decoder, decoder.delta))
    metadata.update(_layered_keys(decoder) if llama_cpp_of(decoder).layered else {})
    metadata.update(_window_keys(decoder))
    metadata.update(_factor_keys(decoder))
    if decoder.query_growth:
        metadata["attention.temperature_scale"] = real_number(decoder.query_growth)
    if decoder.attention_softcap is not None:
        metadata["attn_logit_softcapping"] = real_number(decoder.attention_softcap)
    if decoder.logit_softcap is not None:
        metadata["final_logit_softcapping"] = real_number(decoder.logit_softcap)
    scaling, extra = rope_scaling(decoder)
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
        "block_count": whole_number(config["num_hidden_layers"]),
        "context_length": whole_number(config["max_position_embeddings"]),
        "embedding_length": whole_number(config["hidden_size"]),
        "feed_forward_length": whole_number(config["intermediate_size"]),
        "attention.head_count": whole_number(config["num_attention_heads"]),
        "attention.layer_norm_epsilon": real_number(config.get("layer_norm_eps", 1e-12)),
        "attention.causal": MetaValue("bool", False),
        "pooling_type": whole_number(_POOLING[head.pooling]),
    }
    return Hyperparameters(metadata)


def _kv_heads(decoder: Decoder) -> MetaValue:
    """One number, or one for each layer if some have no attention."""
    if decoder.convolution is None:  # the places of linear attention have a key of their own
        return whole_number(decoder.kv_heads)
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
    own = whole_number(decoder.head_dim_of(whole))
    return {
        **dict.fromkeys(("attention.key_length", "attention.value_length"), own),
        **dict.fromkeys(
            ("attention.key_length_swa", "attention.value_length_swa"),
            whole_number(decoder.head_dim),
        ),
        "attention.head_count_kv": MetaValue("array", np.array(heads, np.int32), "int32"),
        "feed_forward_length": MetaValue("array", np.array(widths, np.int32), "int32"),
        "attention.sliding_window": whole_number(windows_of(decoder)[0]),
        "attention.sliding_window_pattern": MetaValue("array", windowed, "bool"),
        "attention.shared_kv_layers": whole_number(len(decoder.borrowed)),
        "embedding_length_per_layer_input": whole_number(
            decoder.per_layer.width if decoder.per_layer else 0
        ),
        "rope.dimension_count_swa": whole_number(local.dim),
        "rope.freq_base_swa": real_number(local.theta),
    }


def _delta_keys(decoder: Decoder, delta: Delta) -> dict[str, MetaValue]:
    half = decoder.rope_dim // 2
    # How an image's three positions share the columns; a text's are equal.
    sections = np.array([*((half + 2 - place) // 3 for place in range(3)), 0], np.int32)
    return {
        "ssm.conv_kernel": whole_number(delta.taps),
        "ssm.inner_size": whole_number(delta.value),
        "ssm.state_size": whole_number(delta.key_width),
        "ssm.time_step_rank": whole_number(delta.value_heads),
        "ssm.group_count": whole_number(delta.key_heads),
        "full_attention_interval": whole_number(attention_interval(decoder)),
        "rope.dimension_sections": MetaValue("array", sections, "int32"),
    }


def _expert_keys(decoder: Decoder, experts: Experts) -> dict[str, MetaValue]:
    keys = {
        "expert_count": whole_number(experts.count),
        "expert_used_count": whole_number(experts.used),
        "expert_feed_forward_length": whole_number(experts.width),
    }
    if experts.shared:
        keys["expert_shared_feed_forward_length"] = whole_number(experts.shared)
    if llama_cpp_of(decoder).dense_first:
        keys["leading_dense_block_count"] = whole_number(min(experts.layers))
    if experts.sigmoid:
        keys["expert_gating_func"] = whole_number(_SIGMOID)
    return keys


def _window_keys(decoder: Decoder) -> dict[str, MetaValue]:
    """Windows, and how often a layer has none if it is not what llama.cpp assumes."""
    usual, windows = llama_cpp_of(decoder).period, windows_of(decoder)
    if usual is None or not windows:
        return {}
    keys = {"attention.sliding_window": whole_number(windows[0])}
    period = period_without_window(decoder)
    assert period is not None
    if period != usual:
        keys["attention.sliding_window_pattern"] = whole_number(period)
    if decoder.local_rope is not None:
        keys["rope.freq_base_swa"] = real_number(decoder.local_rope.theta)
    return keys


def _factor_keys(decoder: Decoder) -> dict[str, MetaValue]:
    """Factors that are settings in llama.cpp; in other families they follow from sizes."""
    if not llama_cpp_of(decoder).factors:
        return {}
    return {
        "embedding_scale": real_number(decoder.embedding_scale),
        "attention.scale": real_number(decoder.attention_scale),
        "residual_scale": real_number(decoder.residual_scale),
        "logit_scale": real_number(1 / decoder.logit_scale),
    }


def _context(decoder: Decoder) -> tuple[int, tuple[str, ...]]:
    """Context length of the file: at most a window if llama.cpp would ignore the window.

    Up to that length the model attends to everything with and without one.
    """
    windows, known = windows_of(decoder), llama_cpp_of(decoder)
    knows_windows = known.period is not None or known.layered
    if knows_windows or min(windows, default=decoder.context) >= decoder.context:
        return decoder.context, ()
    context = min(windows)
    note = (
        f"context_length is {context}, not {decoder.context}: the model attends to {context} "
        f"positions, and llama.cpp's {known.architecture} has no windows"
    )
    return context, (note,)
