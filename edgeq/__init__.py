"""Deploy models to phones, boards and laptops within a stated budget."""

from __future__ import annotations

TYPE_CHECKING = False  # `python -m edgeq` imports nothing before it has cleaned its search path
if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.core.errors import EdgeqError, InvalidInput, Missing, Problem
    from edgeq.formats.base import Model
    from edgeq.formats.language import LanguageModel

    __version__: str

__all__ = [
    "EdgeqError",
    "InvalidInput",
    "LanguageModel",
    "Missing",
    "Model",
    "Problem",
    "__version__",
    "load",
]

# Imported on first use, so that `import edgeq` costs nothing.
_MODULES = {
    "EdgeqError": "edgeq.core.errors",
    "InvalidInput": "edgeq.core.errors",
    "LanguageModel": "edgeq.formats.language",
    "Missing": "edgeq.core.errors",
    "Model": "edgeq.formats.base",
    "Problem": "edgeq.core.errors",
}


def __getattr__(name: str) -> object:
    import importlib
    import importlib.metadata

    if name == "__version__":
        return importlib.metadata.version("edgeq")
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'edgeq' has no attribute {name!r}")


def load(
    path: str | Path,
    *,
    threads: int | None = None,
    context: int | None = None,
    compute_units: str | None = None,
    key: str | Path | None = None,
) -> Model:
    """Open an artifact directory, a bundle (`.zip` or unzipped) or a `.gguf` file, offline.

    Every byte of an artifact or bundle is compared with its recorded SHA-256 first; a changed file
    raises InvalidInput naming it. A bare `.gguf` has no record: only its header is checked.

    `threads` sets how many threads one inference uses; by default, one per physical core that this
    process may run on. `context` sets how many positions a language model's KV cache holds; by
    default, the number it was trained for, but at most 4096.

    On macOS, Core ML packages run in Core ML, which chooses its own threads. `compute_units` limits
    it to all (default), cpu_only, cpu_and_gpu or cpu_and_ne. On other systems a slow reference
    gives the same numbers, on one thread by default.

    With `key`, a public key in a PEM file, only what was signed by its other half is opened: the
    signature lies next to the file, as `edgeq bundle --sign` writes it (extra `signing`).

    Raises InvalidInput for a damaged file, one that `key` did not sign, an unsupported format or an
    argument that the file has no use for, and Missing if the runtime is not installed.

    >>> import edgeq
    >>> edgeq.load("minilm.zip").embed(["a", "b"]).shape  # doctest: +SKIP
    (2, 384)
    >>> print(*edgeq.load("wren.gguf").generate("The bird"), sep="")  # doctest: +SKIP
    """
    from pathlib import Path

    from edgeq.formats import loaded

    return loaded.load(
        Path(path),
        threads=threads,
        context=context,
        compute_units=compute_units,
        key=None if key is None else Path(key),
    )
