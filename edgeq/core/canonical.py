"""Canonical JSON and hashing, so that equal content always has equal bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def to_json(value: Any) -> str:
    """Serialise `value` with sorted keys, two-space indent and a final newline.

    >>> to_json({"b": 1, "a": [2]})
    '{\\n  "a": [\\n    2\\n  ],\\n  "b": 1\\n}\\n'
    """
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def sha256_of(value: Any) -> str:
    """Full hexadecimal SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Full hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
