"""Check facts in a header that llama.cpp trusts and whose violation would crash it."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.core.cursor import AGAIN
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.header import Header, MetaValue

_TOKENS = "tokenizer.ggml.tokens"
# Types of arrays that llama.cpp reads without checking.
_ITEMS = {
    _TOKENS: ("string",),
    "tokenizer.ggml.merges": ("string",),
    "tokenizer.ggml.scores": ("float32",),
    "tokenizer.ggml.token_type": ("int32", "uint32"),
    "tokenizer.ggml.precompiled_charsmap": ("int8", "uint8"),
}
_ONE_PER_TOKEN = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type")
# Numbers that it divides by, allocates or counts with, and an upper bound for any model.
_COUNTS = {
    "block_count": 512,
    "context_length": 1 << 30,
    "embedding_length": 1 << 20,
    "attention.head_count": 1 << 16,
    "attention.key_length": 1 << 16,
    "attention.value_length": 1 << 16,
}
_MOST_TOKENS = 1 << 24


def require_sane(header: Header) -> None:
    """Raise InvalidInput, naming every key, for metadata that would crash llama.cpp."""
    problems = [
        Problem(f"{header.path}: {key}", what, AGAIN)
        for key, what in (*_arrays(header), *_vocabulary(header), *_counts(header))
    ]
    if problems:
        raise InvalidInput(problems)


def _arrays(header: Header) -> Iterator[tuple[str, str]]:
    for key, kinds in _ITEMS.items():
        found = header.metadata.get(key)
        if found is not None and found.element not in kinds:
            yield key, f"must be an array of {' or '.join(kinds)}, not {_shown(found)}"


def _vocabulary(header: Header) -> Iterator[tuple[str, str]]:
    tokens = header.metadata.get(_TOKENS)
    if tokens is None or tokens.element != "string":
        return
    count = len(tokens.value)
    if count > _MOST_TOKENS:
        yield _TOKENS, f"has {count} tokens; at most {_MOST_TOKENS} are supported"
        return
    for key in _ONE_PER_TOKEN:
        found = header.metadata.get(key)
        if found is not None and found.element and len(found.value) != count:
            yield key, f"has {len(found.value)} items for {count} tokens"
    spelled = [token for token in tokens.value if token]  # empty ones get unique names
    if len(set(spelled)) < len(spelled):
        yield _TOKENS, "has a token twice"


def _counts(header: Header) -> Iterator[tuple[str, str]]:
    architecture = header.get("general.architecture", "")
    for name, most in _COUNTS.items():
        found = header.metadata.get(f"{architecture}.{name}")
        values = [] if found is None else found.value if found.element else [found.value]
        for value in values:
            whole = isinstance(value, int) or getattr(value, "dtype", None) is not None
            least = 0 if found and found.element else 1  # a layer without attention has no heads
            if not whole or not least <= value <= most:
                yield f"{architecture}.{name}", f"is {value!r}, it must be {least} to {most}"
                break


def _shown(found: MetaValue) -> str:
    return f"an array of {found.element}" if found.element else found.kind
