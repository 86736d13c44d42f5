"""A GGUF file opened by llama.cpp: its vocabulary, and one context to run it in."""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.errors import InvalidInput, NotComputed, Problem
from edgeq.quantize.ggml.llama_abi import Batch
from edgeq.quantize.ggml.llama_api import Llama, library

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class _Pointers:
    """Objects to free in the library, the context first."""

    def __init__(self, llama: Llama, model: int) -> None:
        self.llama, self.model, self.context = llama, model, 0

    def free_context(self) -> None:
        if self.context:
            self.llama.lib.llama_free(self.context)
            self.context = 0

    def free(self) -> None:
        self.free_context()
        self.llama.lib.llama_model_free(self.model)


class LlamaModel:
    """One file, its weights mapped. One thread at a time.

    path: the file. adapter: a LoRA file of llama.cpp's, which is kept in memory. vocabulary: number
    of tokens. trained_context: trained length. width: dimension of an encoder's embedding. Raises
    what `library`, `Llama.open_model` and `Llama.open_adapter` raise; read headers first, since
    some damaged files crash llama.cpp.
    """

    def __init__(
        self, path: Path, *, vocabulary_only: bool = False, adapter: Path | None = None
    ) -> None:
        self.path = path
        self.llama = library()
        self._lib = self.llama.lib
        self._pointers = _Pointers(
            self.llama, self.llama.open_model(path, vocabulary_only=vocabulary_only)
        )
        weakref.finalize(self, self._pointers.free)
        model = self._pointers.model
        self._adapter = self.llama.open_adapter(model, adapter) if adapter else None
        self._tokens = self._lib.llama_model_get_vocab(model)
        self.vocabulary = int(self._lib.llama_vocab_n_tokens(self._tokens))
        self.trained_context = int(self._lib.llama_model_n_ctx_train(model))
        self.width = int(self._lib.llama_model_n_embd(model))

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """Token ids; `special` adds the tokens that the file puts around a text.

        Special tokens spelled out in the text are recognized, as in Hugging Face's tokenizers.
        Raises InvalidInput if it is not text.
        """
        if not isinstance(text, str):
            raise InvalidInput(Problem("text", f"is a {type(text).__name__}", "give a str"))
        try:
            content = text.encode()
        except UnicodeEncodeError:
            what = "contains a lone surrogate, which UTF-8 text cannot"
            remedy = "decode the bytes it came from with errors='replace'"
            raise InvalidInput(Problem("text", what, remedy)) from None
        room = len(content) + 8  # a token has at least one byte, except those around the text
        while True:
            ids = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(
                self._tokens, content, len(content), ids, room, special, True
            )
            if count >= 0:
                return list(ids[:count])
            room = -count

    def piece(self, token_id: int) -> bytes:
        """UTF-8 bytes of a token, often only a part of a character; none for a control token."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self._lib.llama_token_to_piece(self._tokens, token_id, buffer, room, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def ends(self, token_id: int) -> bool:
        """Whether a text ends with this token."""
        return bool(self._lib.llama_vocab_is_eog(self._tokens, token_id))

    def open_context(self, **settings: Any) -> None:
        """A new, empty context instead of the last; see `Llama.open_context`. Raises InvalidInput.

        On the CPU only and, unless asked for, without flash attention, whose sums depend on the
        length of the text.
        """
        self._pointers.free_context()
        cpu = {"offload_kqv": False, "op_offload": False, "flash_attn_type": 0}
        self._pointers.context = self.llama.open_context(
            self._pointers.model, self.path, **{**cpu, **settings}
        )
        if self._adapter:
            self.llama.use_adapter(self._pointers.context, self._adapter)
        self._batch = int(self._lib.llama_n_batch(self._pointers.context))

    def clear(self) -> None:
        """Clear the context, if there is one."""
        if self._pointers.context:
            self._lib.llama_memory_clear(self._lib.llama_get_memory(self._pointers.context), False)

    def decode(self, token_ids: Ids, every: bool) -> Floats:
        """Append to the text in the context; float32 (n or 1, vocabulary), of every or the last
        token.

        In pieces of the context's `n_batch`. Raises InvalidInput if llama.cpp fails.
        """
        return self.decode_last(token_ids, len(token_ids) if every else 1)

    def decode_last(self, token_ids: Ids, count: int) -> Floats:
        """What `decode` returns, for the last `count` tokens alone."""
        rows, first = np.empty((count, self.vocabulary), np.float32), len(token_ids) - count
        for start in range(0, len(token_ids), self._batch):
            piece = token_ids[start : start + self._batch]
            wanted = np.arange(start, start + len(piece)) >= first
            self._run(self._lib.llama_decode, piece, wanted.astype(np.int8))
            if wanted.any():
                index = int(wanted.argmax())
                self._copy(index, rows[start + index - first : start + len(piece) - first])
        return rows

    def encode(self, token_ids: Ids) -> Floats:
        """The pooled embedding of one text, float32 (width,); the context contains nothing else."""
        self._run(self._lib.llama_encode, token_ids, np.ones(len(token_ids), np.int8))
        found = self._lib.llama_get_embeddings_seq(self._pointers.context, 0)
        if not found:
            raise self.llama.refusal(self.path, "returns no embedding for a text")
        vector: Floats = np.ctypeslib.as_array(found, (self.width,)).copy()
        return vector

    def _copy(self, index: int, rows: Floats) -> None:
        """Logits of the token at `index` of the last batch, and those after it, to `rows`."""
        found = self._lib.llama_get_logits_ith(self._pointers.context, index)
        if not found:
            raise self.llama.refusal(self.path, "returns no logits")
        rows[:] = np.ctypeslib.as_array(found, rows.shape)

    def _run(self, function: Any, token_ids: Ids, wanted: npt.NDArray[np.int8]) -> None:
        ids = np.ascontiguousarray(token_ids, np.int32)
        batch = Batch(
            n_tokens=len(ids),
            token=ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            logits=wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        status = function(self._pointers.context, batch)
        if status != 0:
            refusal = self.llama.refusal(self.path, f"stopped with status {status}")
            raise NotComputed(refusal.problems)
