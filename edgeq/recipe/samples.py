"""Choosing samples of a data set's file, and what is wrong with its name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.validation_messages import suggest_near


def chosen_rows(path: Path, available: int, samples: int | None, seed: int = 0) -> list[int]:
    """Sorted positions of `samples` out of `available`, the same on every machine.

    `path` is named in errors.
    """
    if available == 0:
        raise InvalidInput(Problem(str(path), "contains no samples", "add some"))
    if samples is None or samples == available:
        return list(range(available))
    if samples > available:
        what = f"has {available} samples, {samples} are requested"
        raise InvalidInput(Problem(str(path), what, f"write 'samples: {available}', or add more"))

    def draw(index: int) -> bytes:
        return hashlib.sha256(f"{seed}:{index}".encode()).digest()

    return sorted(sorted(range(available), key=draw)[:samples])


def no_such_file(path: Path) -> InvalidInput:
    """The error for a file that does not exist, suggesting a similar name."""
    if path.is_symlink():
        what = f"is a link to {path.readlink()}, which does not exist"
        return InvalidInput(Problem(str(path), what, "download it again"))
    folder = path.parent
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    return InvalidInput(Problem(str(path), "no such file", suggest_near(path.name, names)))


def unknown_suffix(path: Path, suffixes: Sequence[str]) -> InvalidInput:
    """The error for a file whose name ends in none of `suffixes`."""
    what = f"cannot be read as {'/'.join(suffixes)} by its name"
    return InvalidInput(
        Problem(str(path), what, f"give a file that ends in {' or '.join(suffixes)}")
    )
