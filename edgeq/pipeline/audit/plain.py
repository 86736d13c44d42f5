"""Typed access to metadata: None for a missing key or a value of another type."""

from __future__ import annotations

from edgeq.formats.gguf.header import Header


def text(header: Header, key: str) -> str | None:
    """The value of `key` if it is a string."""
    found = header.metadata.get(key)
    return found.value if found is not None and found.kind == "string" else None


def whole(header: Header, key: str) -> int | None:
    """The value of `key` if it is an integer."""
    found = header.metadata.get(key)
    if found is None or found.kind == "bool" or not isinstance(found.value, int):
        return None
    return found.value


def length(header: Header, key: str) -> int | None:
    """The length of the array `key`; None if it is not an array."""
    found = header.metadata.get(key)
    return len(found.value) if found is not None and found.kind == "array" else None
