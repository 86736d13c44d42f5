"""A GGUF file whose architecture edgeq does not read: its sizes, and its tokens by their texts.

Such a file stays as it is: nothing is unpacked, llama.cpp runs it, and it can become another GGUF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.cache import cache_facts
from edgeq.formats.gguf.header import Header
from edgeq.formats.gguf.source.config import token_settings
from edgeq.formats.gguf.source.tokenizer import added_tokens, texts_and_types
from edgeq.formats.gguf.tokens import TokenType
from edgeq.models.architectures.file_decoder import FILE


def unread_config(header: Header, hashes: Sequence[str], reason: str) -> dict[str, Any]:
    """What stands in config.json for the file.

    hashes: of its parts, which identify its weights. reason: why edgeq does not read it. Raises
    InvalidInput for a file without a language model.
    """
    architecture = header.get("general.architecture", "")

    def whole(name: str, default: int | None = None) -> int:
        found = header.get(f"{architecture}.{name}", default)
        found = max(found) if isinstance(found, list) and found else found
        if not isinstance(found, int):
            what = f"does not state {architecture}.{name}: it is no language model with layers"
            raise InvalidInput(Problem(str(header.path), what, "name a language model's file"))
        return found

    table = header.tensors.get("token_embd.weight")
    if table is None:
        what = f"{reason}, and it has no token_embd.weight for tokens"
        raise InvalidInput(Problem(str(header.path), what, "name a language model's file"))
    if header.get(f"{architecture}.attention.causal", True) is False:
        what = "is not a file of a language model that generates text"
        raise InvalidInput(Problem(str(header.path), what, "name a language model's file"))
    cache, hidden = cache_facts(header), whole("embedding_length")
    heads = max(1, whole("attention.head_count", 1))
    kept = [
        (keys, window) for keys, window in zip(cache.values, cache.windows, strict=True) if keys
    ]
    return {
        "model_type": FILE,
        "reason": reason,
        "files": list(hashes),
        "layers": whole("block_count"),
        "hidden_size": hidden,
        "heads": heads,
        "head_dim": whole("attention.key_length", hidden // heads),
        "feed_forward": _feed_forward(whole),
        "vocab_size": table.shape[0],
        "max_position_embeddings": whole("context_length"),
        "keys": [keys // 2 for keys, _ in kept],
        "key_windows": [window for _, window in kept],
        "state": cache.state,
        "tensors": {name: entry.shape for name, entry in header.tensors.items()},
        **token_settings(header),
    }


def _feed_forward(whole: Any) -> int:
    """The width of the layers that one token passes through."""
    of_experts = whole("expert_feed_forward_length", 0) * whole("expert_used_count", 0)
    return int(of_experts or whole("feed_forward_length", 0))


def spelled_tokens(header: Header) -> dict[str, Any]:
    """A tokenizer.json that has every token's text and knows no other text.

    Texts are read by llama.cpp itself, whatever the kind of its tokenizer.
    """
    ordinary = [TokenType.NORMAL] * len(header.get("tokenizer.ggml.tokens", ()))
    numbers = header.get("tokenizer.ggml.token_type", ordinary)
    texts, types = texts_and_types(header, numbers)
    # Tokens that are parts of characters: nothing reads them from here, but each has a name.
    texts = [
        text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        for text in texts
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added_tokens(texts, types)),
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {text: id for id, text in enumerate(texts)},
            "unk_token": texts[0],
        },
    }
