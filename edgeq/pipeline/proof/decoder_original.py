"""A language model's original: by transformers, or by llama.cpp if its source is a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeq.core.temporary import TemporaryFolder
from edgeq.core.threads import default_threads
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.decoder import Floats, OriginalDecoder
from edgeq.models.original.tokenizer import open_tokenizer
from edgeq.pipeline.proof.first_difference import FirstDifference
from edgeq.pipeline.proof.tokens import Original

_TABLE = 5e-3
"""llama.cpp takes Gemma's activation from a table of 16-bit floats."""


class DecoderOriginal(Protocol):
    """Runs tokens after those it has seen. tolerance: of logits, None for the usual one."""

    runtime: str
    vocabulary: int
    tolerance: float | None

    def clear(self) -> None:
        """Start a new text."""
        ...

    def append(self, token_ids: Sequence[int] | npt.NDArray[Any], last: int = 0) -> Floats:
        """Logits after the `last` of `token_ids`, or after each with 0; (tokens, vocabulary)."""
        ...

    def tokenizer(self) -> Original:
        """Its own tokenizer."""
        ...

    def first_difference(self, graph: Path, feed: Mapping[str, npt.NDArray[np.generic]]) -> str:
        """The place where the float graph in the directory `graph` differs from it first."""
        ...


def open_original(directory: ModelDirectory, gguf: Path | None, longest: int) -> DecoderOriginal:
    """The original of a model.

    gguf: the file that its directory was unpacked from. longest: tokens of a text.
    """
    return _Transformers(directory) if gguf is None else _LlamaCpp(directory, gguf, longest)


class _Transformers(OriginalDecoder):
    tolerance: float | None = None

    def __init__(self, directory: ModelDirectory) -> None:
        super().__init__(directory)
        self._directory = directory

    def tokenizer(self) -> Original:
        return open_tokenizer(self._directory)

    def first_difference(self, graph: Path, feed: Mapping[str, npt.NDArray[np.generic]]) -> str:
        return FirstDifference(self.network, graph).of(dict(feed))


class _LlamaCpp:
    """Computes with the file's weights in float32: llama.cpp rounds the inputs of others."""

    def __init__(self, directory: ModelDirectory, gguf: Path, longest: int) -> None:
        from edgeq.formats.gguf.llama_model import LlamaModel
        from edgeq.formats.gguf.source.directory import write_float
        from edgeq.quantize.ggml.llama_abi import F32

        with TemporaryFolder() as folder:
            wide = Path(folder) / gguf.name
            write_float(gguf, wide)
            self._model = LlamaModel(wide)
        gelu = "hidden_activation" in directory.config
        self.runtime, self.vocabulary = self._model.llama.runtime, self._model.vocabulary
        self.tolerance: float | None = _TABLE if gelu else None
        self._directory = directory
        threads = default_threads()
        self._model.open_context(
            n_ctx=longest,
            type_k=F32,
            type_v=F32,
            n_threads=threads,
            n_threads_batch=threads,
        )

    def clear(self) -> None:
        self._model.clear()

    def append(self, token_ids: Sequence[int] | npt.NDArray[Any], last: int = 0) -> Floats:
        ids = np.asarray(token_ids, np.int32)
        return self._model.decode_last(ids, last or len(ids))

    def tokenizer(self) -> Original:
        return self

    def ids(self, text: str) -> list[int]:
        return self._model.tokens(text)

    def added(self) -> list[str]:
        content = json.loads(self._directory.tokenizer_json())
        return [token["content"] for token in content["added_tokens"]]

    def first_difference(self, graph: Path, feed: Mapping[str, npt.NDArray[np.generic]]) -> str:
        return "llama.cpp shows no more than the logits"
