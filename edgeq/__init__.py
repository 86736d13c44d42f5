"""Deploy models to phones, boards and laptops within a stated budget."""

from __future__ import annotations

TYPE_CHECKING = False  # `python -m edgeq` imports nothing before it has cleaned its search path
if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.formats.base import Model

__all__ = ["load"]


def load(
    path: str | Path,
    *,
    threads: int | None = None,
    context: int | None = None,
    compute_units: str | None = None,
) -> Model:
    """Open an artifact directory, a bundle (`.zip` or unzipped) or a `.gguf` file, offline.

    Of artifacts and bundles every byte is compared with the recorded SHA-256 first; a changed file
    is refused by name (InvalidInput). A bare `.gguf` has no record: only its header is checked.
    `threads` is how many threads one inference uses; by default one per physical core this process
    may run on. `context` is how many positions a language model's cache holds; by default those it
    was trained for, and at most 4096.

    Core ML packages run on Core ML on macOS, on as many threads as it takes, and on those of its
    `compute_units` that are named: all (default), cpu_only, cpu_and_gpu, cpu_and_ne. Elsewhere a
    slow reference gives the same numbers, on one thread by default.

    >>> import edgeq
    >>> edgeq.load("minilm.zip").embed(["a", "b"]).shape  # doctest: +SKIP
    (2, 384)
    >>> print(*edgeq.load("wren.gguf").generate("The bird"), sep="")  # doctest: +SKIP
    """
    from pathlib import Path

    from edgeq.formats import loaded

    return loaded.load(Path(path), threads=threads, context=context, compute_units=compute_units)
