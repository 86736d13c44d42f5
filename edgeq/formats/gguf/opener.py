"""Opens GGUF files on llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeq.core.artifact import GGUF_FILE
from edgeq.core.threads import default_threads
from edgeq.formats.base import Model
from edgeq.formats.opener import Opener
from edgeq.formats.package import Package


class GgufOpener(Opener):
    """See `Opener`."""

    name = "gguf"
    model_file = GGUF_FILE
    always_has_context = True
    bare_suffixes = (".gguf",)

    def open(
        self, package: Package, threads: int | None, context: int | None, units: str | None
    ) -> Model:
        """See `FileFormat.open`."""
        from edgeq.formats.gguf.model import open_gguf
        from edgeq.formats.runtime_cache import model_file

        return open_gguf(
            model_file(package),
            threads=threads or default_threads(),
            context=context,
            artifact=package.artifact,
        )

    def open_bare(self, path: Path, threads: int | None, context: int | None) -> Model:
        """See `FileFormat.open_bare`."""
        from edgeq.formats.gguf.model import open_gguf

        return open_gguf(path, threads=threads or default_threads(), context=context)

    def import_runtime(self, task: str) -> None:
        """See `FileFormat.import_runtime`."""
        from edgeq.quantize.ggml.llama_api import library

        library()

    def tokenize_with(self, directory: Path) -> Callable[[str, bool], list[int]]:
        """See `FileFormat.tokenize_with`; the tokenizer is in the file."""
        from edgeq.formats.gguf.llama_model import LlamaModel

        return LlamaModel(directory / GGUF_FILE, vocabulary_only=True).tokens
