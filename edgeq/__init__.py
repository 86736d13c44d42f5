"""Deploy models to phones, boards and laptops within a stated budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.runners.loaded import LoadedModel

__all__ = ["load"]


def load(path: str | Path, *, threads: int | None = None) -> LoadedModel:
    """Open an artifact directory, an unzipped bundle or a bundle `.zip`, offline.

    Every byte is compared with the recorded SHA-256 first; a changed file is refused by name
    (InvalidInput). `threads` is how many threads one inference uses; by default one per physical
    core this process may run on.

    >>> import edgeq
    >>> edgeq.load("minilm.zip").embed(["a", "b"]).shape  # doctest: +SKIP
    (2, 384)
    """
    from edgeq.runners import loaded

    return loaded.load(Path(path), threads=threads)
