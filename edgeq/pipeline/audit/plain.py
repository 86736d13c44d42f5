"""Metadata values of the kind one expects, or None: a file may hold anything under any key."""

from __future__ import annotations

from edgeq.formats.gguf.header import Header


def text(header: Header, key: str) -> str | None:
    """The value of `key` if it is a text."""
    found = header.metadata.get(key)
    return found.value if found is not None and found.kind == "string" else None


def whole(header: Header, key: str) -> int | None:
    """The value of `key` if it is a whole number."""
    found = header.metadata.get(key)
    if found is None or found.kind == "bool" or not isinstance(found.value, int):
        return None
    return found.value


def length(header: Header, key: str) -> int | None:
    """How many items `key` has if it is an array; they are not looked at."""
    found = header.metadata.get(key)
    return len(found.value) if found is not None and found.kind == "array" else None
