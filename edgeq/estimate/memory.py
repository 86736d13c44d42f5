"""Estimate the memory of a process that runs a model, from the contents of its files.

A sum of parts that the runtimes allocate; each is a formula of the model's sizes. Their few
constants come from memory passes of models of 4 to 620 MiB, 2 to 12 layers and 4,096 to 64,000
tokens (Linux, x86-64, Python 3.11, onnxruntime 1.31, llama.cpp of xllamacpp 2026.10), and
`benchmarks/memory_estimates.py` compares the estimates with new passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgeq.core.artifact import Frozen
from edgeq.core.kv_cache import BYTES_PER_VALUE, KvType
from edgeq.core.units import MIB
from edgeq.estimate.contents import Contents
from edgeq.estimate.interval import Interval
from edgeq.estimate.sizes import Sizes, table_name
from edgeq.formats.file_format import Runtime
from edgeq.formats.registry import file_format

_F32 = 4
_BATCH = 512
"""Prompt tokens that both runtimes process at once; their working memory grows with it."""

_IMPORTED = {
    "ONNX Runtime": (35.4, 32.0),
    "llama.cpp": (32.5, 30.5),
    "Core ML": (35.4, 32.0),
}
"""Python with the runtime, nothing loaded: MiB that cannot be dropped, MiB of mapped files."""
_TOUCHED_CODE = {"ONNX Runtime": 12.7, "llama.cpp": 2.3, "Core ML": 12.7}
"""MiB of the runtime library's code that are mapped in addition when it runs."""

# onnxruntime
_ONNX_SESSION = 4.0  # MiB: the graph, the arena's first steps, threads
_ONNX_FEED_FORWARD = _ONNX_ATTENTION = 4  # tensors of each width that are alive at the same time
# bytes per weight: prepared blocks of 32 also store their scale and sum as floats
_PACKED_PER_BLOCK = 8
_BLOCK = 32
_BLOCK_KERNEL = 4.0  # MiB: needed additionally by kernels for blocks
# MiB, in addition to a decoder's token table, which is held twice while it loads
_TABLE_LOAD = 17.0
_TOKENIZER_HELD, _TOKENIZER_OPENING = 7.4, 11.7  # multiple of the bytes of tokenizer.json

# llama.cpp
_GGUF_MODEL = 4.4  # MiB
_GGUF_PER_TOKEN = 190  # bytes per token in its vocabulary
_GGUF_PER_JSON_BYTE = 2.6  # bytes of merges per byte of the original tokenizer.json
_GGUF_GRAPH = 1.5  # MiB
_GGUF_CELLS = 256
_GGUF_ENCODER = 8.0  # MiB: an encoder's graph keeps all of its outputs

_SAMPLE_TOKENS = 128
"""Length of the text that an encoder is measured with, in tokens."""
_UNKNOWN_ACTIVATIONS = (8.0, 2.0, 96.0)  # MiB of a model of arrays: value, low, high

_DOUBT_BYTES, _DOUBT_SHARE = 16 * MIB, 0.04
_FAR_SHARE = 0.15  # added if this runtime's build or this system was not measured


class MemoryEstimate(Frozen):
    """Bytes of one process. peak: all resident pages. footprint: pages that cannot be dropped.

    growth: added by loading and running to the peak of the runtime alone. parts: of the peak, by
    names for a reader.
    """

    peak: Interval
    footprint: Interval
    growth: Interval
    parts: dict[str, float]

    def counted(self, counts: str) -> Interval:
        """The figure that a device's system counts: `footprint`, else all resident pages."""
        return self.footprint if counts == "footprint" else self.peak


@dataclass(frozen=True)
class _Parts:
    """Bytes beyond the runtime itself. loading_*: the peak while loading, if known."""

    mapped: float
    cache: float
    activations: float
    session: float  # of the session, tokenizer, vocabulary
    loading_anonymous: float = 0.0
    loading_mapped: float = 0.0

    @property
    def anonymous(self) -> float:
        return max(self.cache + self.activations + self.session, self.loading_anonymous)

    @property
    def resident(self) -> float:
        running = self.cache + self.activations + self.session + self.mapped
        return max(running, self.loading_anonymous + self.loading_mapped)


def estimate_memory(
    contents: Contents,
    *,
    context: int = 4096,
    measured_here: bool = True,
    with_python: bool = True,
) -> MemoryEstimate:
    """Memory of an edgeq process that opens `contents` and runs it.

    context: positions of a language model's cache, all of them filled. measured_here: whether the
    constants were measured on the device's system and processor; the interval is wider otherwise.
    with_python: False for an app without it, whose own memory comes on top. Weights are mapped, as
    edgeq's runners do if they can; Core ML may copy them for its units.
    """
    runtime = file_format(contents.format).memory_like
    parts = _RUNTIMES[runtime](contents, context)
    imported = _IMPORTED[runtime] if with_python else (0.0, 0.0)
    anonymous, mapped = (size * MIB for size in imported)
    peak = anonymous + mapped + parts.resident
    doubt = _doubt(contents, parts, measured_here, with_python)
    return MemoryEstimate(
        peak=doubt.about(peak),
        footprint=doubt.about(anonymous + parts.anonymous),
        growth=doubt.about(parts.resident),
        parts={
            "the runtime": anonymous + mapped,
            "weights and code, mapped": parts.mapped,
            "keys and values": parts.cache,
            "activations": parts.activations,
            "session and tokenizer": parts.session,
            "while loading": max(0.0, peak - anonymous - mapped - _running(parts)),
        },
    )


@dataclass(frozen=True)
class _Doubt:
    """How far memory may be from its estimate, and what that is based on.

    below, above: bytes of what is unknown. is_mapped: whether the runtime may map weights instead
    of copying them, so that `below` is all that the estimate can be too large by.
    """

    below: float
    above: float
    is_near: bool
    is_mapped: bool
    basis: str

    def about(self, value: float) -> Interval:
        share = _DOUBT_SHARE if self.is_near else _FAR_SHARE
        doubt = _DOUBT_BYTES + share * value + (0 if self.is_near else _DOUBT_BYTES)
        low = value - self.below - (0 if self.is_mapped else doubt)
        high = value + doubt + self.above
        return Interval(value=value, low=max(0.0, low), high=high, basis=self.basis)


def _doubt(contents: Contents, parts: _Parts, measured_here: bool, with_python: bool) -> _Doubt:
    format = file_format(contents.format)
    below = above = 0.0
    basis = "sizes from its configuration, and the runtime's measured allocations"
    if contents.sizes is None and format.compared_by_operator:
        _, few, many = (size * MIB for size in _UNKNOWN_ACTIVATIONS)
        below, above = parts.activations - few, many - parts.activations
        basis = "sizes of its weights; its operators' working memory is unknown"
    if not format.runs_anywhere:
        basis = "sizes from its configuration, weights copied once; lower end: they stay mapped"
        below = float(contents.weight_bytes)
    elif not measured_here:
        basis += ", on another system"
    if not with_python:
        basis += "; in addition to the app's own memory"
    is_near = measured_here and format.runs_anywhere
    return _Doubt(below, above, is_near, not format.runs_anywhere, basis)


def _running(parts: _Parts) -> float:
    return parts.mapped + parts.cache + parts.activations + parts.session


def _onnx(contents: Contents, context: int) -> _Parts:
    """onnxruntime with weights mapped from a prepacked copy, activations in float32."""
    sizes = contents.sizes
    mapped = _onnx_mapped(contents)
    session = _ONNX_SESSION * MIB
    if sizes is None:
        return _Parts(mapped, 0, _UNKNOWN_ACTIVATIONS[0] * MIB, session)
    session += _TOKENIZER_HELD * contents.tokenizer_bytes
    if any(_in_blocks(weight.number_format) for weight in contents.weights.values()):
        session += _BLOCK_KERNEL * MIB
    if not sizes.is_decoder:
        tokens = min(_SAMPLE_TOKENS, contents.max_tokens or _SAMPLE_TOKENS)
        scores = 2 * sizes.heads * tokens**2 * _F32
        return _Parts(mapped, 0, _onnx_activations(sizes, tokens) + scores, session)
    table = _table_bytes(contents)
    opening = _TOKENIZER_OPENING * contents.tokenizer_bytes
    is_float = _table_format(contents) in ("float32", "f32")
    return _Parts(
        mapped=mapped,
        cache=sizes.cache_bytes(context, _F32),
        activations=_onnx_activations(sizes, min(_BATCH, context)) + 2 * sizes.vocabulary * _F32,
        session=session,
        loading_anonymous=max(table + _TABLE_LOAD * MIB, session + opening),
        # A float table is mapped at that moment too, codes are not yet.
        loading_mapped=(table if is_float else 0) + _TOUCHED_CODE["ONNX Runtime"] * MIB,
    )


def _onnx_activations(sizes: Sizes, tokens: int) -> float:
    attention = sizes.query + 2 * sizes.key
    per_token = _ONNX_FEED_FORWARD * sizes.wide + _ONNX_ATTENTION * attention
    return float(tokens * per_token * _F32)


def _onnx_mapped(contents: Contents) -> float:
    """Resident bytes of the prepacked copy, and of the library's code.

    Of a token table that is only looked up, the rows of one text: almost nothing. A table that is
    also the output layer is there twice in float32: packed for the product, and as is.
    """
    sizes, name = contents.sizes, table_name(contents.weights_shapes)
    blocks = sum(
        _PACKED_PER_BLOCK * math.prod(weight.shape) / _BLOCK
        for own, weight in contents.weights.items()
        if _in_blocks(weight.number_format) and (own != name or (sizes is not None and sizes.tied))
    )
    stored = contents.file_bytes - (
        contents.tokenizer_bytes if file_format(contents.format).tokenizer_is_added else 0
    )
    code = _TOUCHED_CODE["ONNX Runtime"] * MIB
    if sizes is None or name is None:
        return stored + blocks + code
    table = _table_bytes(contents)
    if not sizes.tied:
        return stored - table + blocks + code
    twice = table if _table_format(contents) == "float32" else 0
    return stored + twice + blocks + code


def _gguf(contents: Contents, context: int) -> _Parts:
    """llama.cpp on the CPU as edgeq opens it: mapped, not repacked, flash attention off."""
    sizes = contents.sizes
    mapped = contents.file_bytes + _TOUCHED_CODE["llama.cpp"] * MIB
    session = _GGUF_MODEL * MIB + _GGUF_PER_JSON_BYTE * contents.tokenizer_bytes
    if sizes is None:
        return _Parts(mapped, 0, _UNKNOWN_ACTIVATIONS[0] * MIB, session)
    session += _GGUF_PER_TOKEN * sizes.vocabulary
    if not sizes.is_decoder:
        tokens = contents.max_tokens or _BATCH
        work = _gguf_activations(sizes, tokens, tokens, "f16")
        return _Parts(mapped, 0, work + _GGUF_ENCODER * MIB, session)
    batch = min(_BATCH, context)
    kv = contents.cache_type
    return _Parts(
        mapped=mapped,
        cache=gguf_cache_bytes(sizes, context, BYTES_PER_VALUE[kv]),
        activations=_gguf_activations(sizes, batch, context, kv),
        session=session,
    )


def gguf_cache_bytes(sizes: Sizes, context: int, bytes_per_value: float) -> float:
    """The KV cache as llama.cpp allocates it: in steps, windows with room for one batch."""
    full = _padded(context)
    batch = min(_BATCH, context)
    values = sum(
        key * (full if window is None else min(full, _padded(window + batch)))
        for window, key in sizes.cached()
    )
    return 2 * values * bytes_per_value + sizes.state


def _gguf_activations(sizes: Sizes, batch: int, context: int, kv: KvType) -> float:
    """Attention scores of every head for a batch; two of each width.

    Scores are converted to float16 before they are multiplied with values in float16. A quantized
    cache is read by flash attention, which keeps only the mask, in float32 and float16.
    """
    positions = batch * _padded(context)
    per_position = {"f32": sizes.heads * _F32, "f16": 1.5 * sizes.heads * _F32}
    scores = positions * per_position.get(kv, 1.5 * _F32)
    widths = 2 * batch * (sizes.wide + sizes.hidden) * _F32
    logits = 2 * sizes.vocabulary * _F32
    return scores + widths + logits + _GGUF_GRAPH * MIB


def _padded(positions: int) -> int:
    return -(-positions // _GGUF_CELLS) * _GGUF_CELLS


def _coreml(contents: Contents, context: int) -> _Parts:
    """Core ML: weights copied, activations and cache in float16. None of it was measured."""
    sizes = contents.sizes
    mapped = _TOUCHED_CODE["Core ML"] * MIB
    session = contents.file_bytes + _ONNX_SESSION * MIB + _TOKENIZER_HELD * contents.tokenizer_bytes
    if sizes is None:
        return _Parts(mapped, 0, _UNKNOWN_ACTIVATIONS[0] * MIB / 2, session)
    tokens = min(_BATCH, context) if sizes.is_decoder else _SAMPLE_TOKENS
    cache = sizes.cache_bytes(context, 2) if sizes.is_decoder else 0.0
    return _Parts(mapped, cache, _onnx_activations(sizes, tokens) / 2, session)


def _in_blocks(number_format: str) -> bool:
    return number_format.endswith(f"-b{_BLOCK}")


def _table_bytes(contents: Contents) -> int:
    name = table_name(contents.weights_shapes)
    return contents.weights[name].bytes if name else 0


def _table_format(contents: Contents) -> str:
    name = table_name(contents.weights_shapes)
    return contents.weights[name].number_format.lower() if name else ""


_RUNTIMES: dict[Runtime, Callable[[Contents, int], _Parts]] = {
    "ONNX Runtime": _onnx,
    "llama.cpp": _gguf,
    "Core ML": _coreml,
}
