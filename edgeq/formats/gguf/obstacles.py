"""What llama.cpp cannot represent of a language model, or would silently deviate from.

Restrictions are those of llama.cpp's src/models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgeq.formats.gguf.layers import (
    attention_interval,
    llama_cpp_of,
    period_without_window,
    windows_of,
)
from edgeq.models.architectures import FAMILIES, Decoder, LlamaCpp
from edgeq.models.architectures.altup import AltUp
from edgeq.models.architectures.delta import Delta
from edgeq.models.architectures.experts import Experts

# llama.cpp identifies these by their number of layers, and uses other divisors than elsewhere.
SCALED_BY_HIDDEN = {"gemma2": 46, "gemma3_text": 62}

# Of gemma3n: hidden states, the computed one and the rank of the second way around attention; gates
# set to zero, and layers with keys of their own.
_STATES, _SPARSE, _SPARSITY, _OWN_KEYS = (4, 0, 64), 10, 0.95, 20
_PER_LAYER, _CAP = 256, 30.0
_ROPES = ("default", "linear", "yarn")
_YARN_BOUNDS = (1.0, 32.0, True)  # its keys for others do not reproduce transformers' results
_OTHER, _ONNX = "use another model", "build this model for ONNX"


def obstacles(decoder: Decoder) -> Iterator[tuple[str, str]]:
    """What is in the way of running the model as it is, and what to do instead."""
    known = llama_cpp_of(decoder)
    if decoder.qkv_bias and not known.attention_bias:
        yield "its attention has biases", _OTHER
    if decoder.activation != ("gelu_tanh" if known.gelu else "silu"):
        yield f"its activation is {decoder.activation}", _OTHER
    if decoder.rope_dim != decoder.head_dim and not (known.part_of_head or known.layered):
        yield "its rotary positions rotate a part of each head", _OTHER
    if known.square and decoder.heads * decoder.head_dim != decoder.hidden:
        yield f"{decoder.heads} heads of {decoder.head_dim} are not {decoder.hidden}", _OTHER
    if decoder.query_growth and not known.growth:
        yield "its queries grow with their position", _OTHER
    if decoder.rotates != _rotates(known, decoder.layers):
        yield "its layers without positions are at other places than llama.cpp's", _OTHER
    if known.layered and (
        len(set(windows_of(decoder))) != 1 or decoder.rope.kind != "proportional"
    ):
        yield "its layers are not of two types, with a window and a proportional rope", _OTHER
    if known.period is not None and windows_of(decoder) and period_without_window(decoder) is None:
        yield "its layers with a window are not regularly spaced", _OTHER
    if decoder.experts:
        yield from _expert_obstacles(decoder, decoder.experts)
    if decoder.convolution and decoder.convolution.bias:
        yield "its convolutions have biases", _OTHER
    if decoder.delta:
        yield from _delta_obstacles(decoder, decoder.delta)
    yield from _rope_obstacles(decoder)
    if decoder.family in SCALED_BY_HIDDEN:
        yield from _gemma_obstacles(decoder)
    yield from _borrowing_obstacles(decoder)
    if decoder.feed_forwards and not known.layered:
        yield "its feed-forward layers differ in width", _ONNX
    if decoder.altup:
        yield from _altup_obstacles(decoder, decoder.altup)


def _rotates(known: LlamaCpp, layers: int) -> tuple[bool, ...]:
    still = known.still or layers + 1
    return tuple((layer + 1) % still != 0 for layer in range(layers))


def _rope_obstacles(decoder: Decoder) -> Iterator[tuple[str, str]]:
    rope, local = decoder.rope, decoder.local_rope
    if rope.kind not in (*_ROPES, *llama_cpp_of(decoder).ropes):
        able = [name for name, family in FAMILIES.items() if rope.kind in family.llama_cpp.ropes]
        yield f"the rope_type {rope.kind} is supported only for {', '.join(able)}", _OTHER
    if rope.kind == "yarn" and (rope.low, rope.high, rope.rounded) != _YARN_BOUNDS:
        bounds = f"{_YARN_BOUNDS[:2]}, rounded to whole columns"
        yield f"its yarn rope has other bounds than {bounds}", _ONNX
    if local is not None and local.kind != "default":
        yield f"its windowed layers have the rope_type {local.kind}", _OTHER
    if rope.kind == "yarn" and decoder.family in SCALED_BY_HIDDEN:
        yield "only its layers without a window have the rope_type yarn", _OTHER


def _gemma_obstacles(decoder: Decoder) -> Iterator[tuple[str, str]]:
    width: float = decoder.head_dim
    if decoder.layers == SCALED_BY_HIDDEN[decoder.family]:
        width = decoder.hidden // decoder.heads
    if not math.isclose(decoder.attention_scale, width**-0.5, rel_tol=1e-6):
        yield f"query_pre_attn_scalar is {decoder.attention_scale**-2:g}, not {width:g}", _OTHER
    if decoder.family == "gemma2":
        if decoder.attention_softcap is None or decoder.logit_softcap is None:
            yield "it does not cap logits", _OTHER
        if not decoder.tied:
            yield "its output weights are separate", _OTHER
    elif decoder.attention_softcap is not None:
        yield "it caps attention logits", _OTHER
    if not windows_of(decoder):
        yield "none of its layers has a window", _OTHER


def _borrowing_obstacles(decoder: Decoder) -> Iterator[tuple[str, str]]:
    """llama.cpp's borrowers take the keys of the last two layers that have their own."""
    own = decoder.layers - len(decoder.borrowed)
    taken = {(decoder.windows[n] is None, lender) for n, lender in decoder.borrowed.items()}
    if taken - {(False, own - 2), (True, own - 1)}:
        what = "the last layers with keys of their own are not one with a window and one without"
        yield what, _ONNX


def _altup_obstacles(decoder: Decoder, altup: AltUp) -> Iterator[tuple[str, str]]:
    """What llama.cpp does not read from the file of such a model, but has as constants."""
    states = (altup.count, altup.active, altup.rank)
    if states != _STATES or not altup.scaled:
        yield "its hidden states are others than those of the published models", _ONNX
    sparse = [layer for layer, share in enumerate(altup.sparsity) if share]
    if sparse != list(range(_SPARSE)) or altup.sparsity[0] != _SPARSITY:
        yield f"other gates are set to zero than {_SPARSITY} in the first {_SPARSE} layers", _ONNX
    if decoder.layers - len(decoder.borrowed) != _OWN_KEYS:
        yield f"other layers than the first {_OWN_KEYS} have keys of their own", _ONNX
    if decoder.per_layer and decoder.per_layer.width != _PER_LAYER:
        yield f"the embeddings of its layers are not {_PER_LAYER} wide", _ONNX
    if decoder.logit_softcap != _CAP:
        yield f"its logits are not capped at {_CAP:g}", _ONNX
    if not windows_of(decoder):
        yield "none of its layers has a window", _ONNX


def _expert_obstacles(decoder: Decoder, experts: Experts) -> Iterator[tuple[str, str]]:
    if not experts.normalized:
        yield "the shares of its experts do not add up to one", _ONNX
    if experts.scale != 1:
        yield "the shares of its experts have a factor", _ONNX
    first = min(experts.layers) if llama_cpp_of(decoder).dense_first else 0
    if experts.layers != frozenset(range(first, decoder.layers)):
        yield "only some of its layers have experts", _ONNX


def _delta_obstacles(decoder: Decoder, delta: Delta) -> Iterator[tuple[str, str]]:
    if delta.key_width != delta.value_width:
        yield "the heads of its keys and of its values differ in width", _ONNX
    if not attention_interval(decoder):
        yield "its layers with attention are not regularly spaced", _ONNX
