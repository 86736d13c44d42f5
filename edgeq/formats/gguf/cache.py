"""The size of llama.cpp's KV cache, from the metadata of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeq.core.kv_cache import KvType
from edgeq.formats.gguf.header import Header

PROMPT = 512
"""Tokens of a prompt in one pass: llama.cpp's own default."""
_STATE_BYTES = 4  # of a value that a convolution carries on
_CELLS = 256  # llama.cpp allocates positions in multiples of this
# One in how many layers attends to the whole text if a file names a window: facts about
# llama.cpp's model definitions, which files do not contain.
_FULL_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2}


@dataclass(frozen=True)
class CacheFacts:
    """Facts that determine the size of a cache.

    values: of keys and values of one position, layer by layer. windows: positions that each of
    these layers attends to, None for all. state: bytes that other layers carry on, whatever the
    length.
    """

    values: tuple[int, ...]
    windows: tuple[int | None, ...]
    state: int = 0

    def bytes(self, context: int, bytes_per_value: float, batch: int) -> int:
        """The bytes of keys and values for `context` positions, reading `batch` tokens at a time.

        Layers with a window keep its positions and those of one batch.
        """
        full = _padded(context)
        cells = (full if w is None else min(full, _padded(w + batch)) for w in self.windows)
        total = sum(count * values for count, values in zip(cells, self.values, strict=True))
        return int(bytes_per_value * total) + self.state


def cache_facts(header: Header) -> CacheFacts:
    """Read the cache's shape from the metadata of a decoder.

    Architectures with unknown windows count in full, which is never too little.
    """
    architecture = header.get("general.architecture", "")

    def fact(name: str, default: Any = None) -> Any:
        return header.get(f"{architecture}.{name}", default)

    layers = int(fact("block_count", 0))
    heads = _per_layer(fact("attention.head_count", 0), layers)
    kv_heads = _per_layer(fact("attention.head_count_kv", heads), layers)
    width = int(fact("embedding_length", 0)) // max([1, *heads])
    windows = _windows(fact, architecture, layers)
    parts = ("attention.key_length", "attention.value_length")
    whole = sum(int(fact(part, width)) for part in parts)
    narrow = sum(int(fact(f"{part}_swa", fact(part, width))) for part in parts)
    every_attends = int(fact("full_attention_interval", 1)) or 1
    kv_heads = [n if (at + 1) % every_attends == 0 else 0 for at, n in enumerate(kv_heads)]
    own = layers - int(fact("attention.shared_kv_layers", 0))
    return CacheFacts(
        values=tuple(
            count * (whole if window is None else narrow)
            for count, window in zip(kv_heads[:own], windows, strict=False)
        ),
        windows=windows[:own],
        state=_STATE_BYTES * kv_heads.count(0) * _carried(fact),
    )


def _windows(fact: Callable[..., Any], architecture: str, layers: int) -> tuple[int | None, ...]:
    """The window of each layer: by the file's list, else by what llama.cpp has as a constant."""
    window, listed = fact("attention.sliding_window"), fact("attention.sliding_window_pattern")
    every = _FULL_EVERY.get(architecture, 1)
    if isinstance(listed, list) and len(listed) == layers:
        windowed = list(map(bool, listed))
    else:
        windowed = [every > 1 and layer % every < every - 1 for layer in range(layers)]
    return tuple(int(window) if window and own else None for own in windowed)


def cache_type(header: Header, kv: KvType | None) -> KvType:
    """The type of a model's cache: `kv`, else as precise as the file."""
    floats = all(tensor.type.name == "F32" for tensor in header.tensors.values())
    return kv or ("f32" if floats else "f16")


def _carried(fact: Callable[..., Any]) -> int:
    """Values that a layer without attention carries on."""
    convolved = (int(fact("shortconv.l_cache", 1)) - 1) * int(fact("embedding_length", 0))
    inner, width = int(fact("ssm.inner_size", 0)), int(fact("ssm.state_size", 0))
    both = inner + 2 * int(fact("ssm.group_count", 0)) * width
    return convolved + (int(fact("ssm.conv_kernel", 1)) - 1) * both + inner * width


def _per_layer(found: Any, layers: int) -> list[int]:
    return [int(count) for count in (found if isinstance(found, list) else [found] * layers)]


def _padded(positions: int) -> int:
    return -(-positions // _CELLS) * _CELLS
