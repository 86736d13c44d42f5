"""What llama.cpp allocates for keys and values, from the metadata of a file."""

from __future__ import annotations

from typing import Any

from edgeq.gguf.header import Header

_CELLS = 256  # llama.cpp allocates positions in multiples of this
# Every how many layers one looks back over the whole text, where a file names a window: facts of
# llama.cpp's model definitions, which files do not hold.
_FULL_EVERY = {"gemma2": 2, "gemma3": 6}


def cache_bytes(header: Header, context: int, bytes_per_value: int, batch: int) -> int:
    """Bytes of keys and values for `context` positions, prompts read `batch` tokens at a time.

    Layers with a window keep its positions and those of one batch. Architectures whose windows are
    not known here count in full, which is never too little.
    """
    architecture = header.get("general.architecture", "")

    def fact(name: str, default: Any = None) -> Any:
        return header.get(f"{architecture}.{name}", default)

    layers, heads = int(fact("block_count")), fact("attention.head_count")
    kv_heads = fact("attention.head_count_kv", heads)
    per_layer = kv_heads if isinstance(kv_heads, list) else [kv_heads] * layers
    width = int(fact("embedding_length")) // max(heads if isinstance(heads, list) else [heads])
    values = int(fact("attention.key_length", width)) + int(fact("attention.value_length", width))
    full = _padded(context)
    window, every = fact("attention.sliding_window"), _FULL_EVERY.get(architecture)
    windowed = min(full, _padded(int(window) + batch)) if window and every else full
    cells = [
        full if every is None or layer % every == every - 1 else windowed for layer in range(layers)
    ]
    return sum(
        count * heads_here * values * bytes_per_value
        for count, heads_here in zip(cells, per_layer, strict=True)
    )


def _padded(positions: int) -> int:
    return -(-positions // _CELLS) * _CELLS
