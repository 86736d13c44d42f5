"""GGUF files on llama.cpp: language models and sentence encoders.

On the CPU, weights mapped and not repacked, an explicit number of threads: a second run gives the
same bits. The KV cache is as precise as the file, unless its record names another type: float32 if
every weight is, else float16, which is llama.cpp's own default. Flash attention is off, but for a
quantized cache, whose values llama.cpp can read only with it.

Weights are not repacked for wider kernels: with a model of 99 MiB in Q4_0, a process then used 148
MiB of anonymous memory instead of 49, to read prompts 1.4 and write tokens 1.2 times as fast
(llama.cpp of xllamacpp 2026.10.11549, one thread on a busy machine).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeq.core.artifact import ADAPTER_FILE, Artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.known_settings import KV_KEY
from edgeq.core.kv_cache import BYTES_PER_VALUE, QUANTIZED, KvType
from edgeq.core.terms import TextOrPair
from edgeq.formats.base import Array, Floats, Model
from edgeq.formats.gguf.cache import PROMPT, cache_facts, cache_type
from edgeq.formats.gguf.header import SPECIAL_TOKENS, Header, read_header
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.parts import read_whole
from edgeq.formats.gguf.trial import require_survivor
from edgeq.formats.language import Ids, LanguageModel
from edgeq.models.architectures import DEFAULT_CONTEXT
from edgeq.quantize.ggml.llama_abi import GGML_TYPES

_SCORED = 256
"""Tokens in one pass when all logits are requested: llama.cpp holds them twice meanwhile."""


def open_gguf(
    path: Path, *, threads: int, context: int | None = None, artifact: Artifact | None = None
) -> Model:
    """Open a `.gguf`; `artifact` is its record if it has one, with its adapter if it names one.

    A file that this machine has not opened before is first opened by another process. context:
    positions of a language model's cache, at most the trained length. Raises InvalidInput for a
    file that is damaged, or not supported by llama.cpp, with its reason; Missing without llama.cpp.
    """
    adapter = None
    if artifact is not None and ADAPTER_FILE in artifact.files:
        adapter = path.with_name(ADAPTER_FILE)
    kv = artifact.settings.get(KV_KEY) if artifact else None
    require_survivor(read_whole(path), adapter, context, kv, artifact)
    return open_files(path, adapter, threads=threads, context=context, kv=kv, artifact=artifact)


def open_files(
    path: Path,
    adapter: Path | None,
    *,
    threads: int,
    context: int | None = None,
    kv: KvType | None = None,
    artifact: Artifact | None = None,
) -> Model:
    """Open a file in this process, at the risk of crashing it; see `open_gguf`.

    kv: the type of a language model's cache, by default as precise as the file.
    """
    header = read_whole(path)
    name = artifact.name if artifact else path.name
    architecture = header.get("general.architecture", "")
    if header.get(f"{architecture}.attention.causal", True) is False:
        if context is not None:
            raise InvalidInput(Problem("context", f"{name} is a sentence encoder", "omit it"))
        return GgufEncoder(LlamaModel(path), name, artifact, header, threads)
    if adapter is not None:
        read_header(adapter)
    model = LlamaModel(path, adapter=adapter)
    return GgufLanguageModel(model, name, artifact, header, threads, context, kv)


class _Ends(Container[int]):
    """End tokens, looked up on demand: a vocabulary has 150,000, and few are ever used."""

    def __init__(self, model: LlamaModel) -> None:
        self._model = model

    def __contains__(self, token_id: object) -> bool:
        return isinstance(token_id, int) and self._model.ends(token_id)


class GgufLanguageModel(LanguageModel):
    """A decoder on llama.cpp."""

    def __init__(
        self,
        model: LlamaModel,
        name: str,
        artifact: Artifact | None,
        header: Header,
        threads: int,
        context: int | None,
        kv: KvType | None,
    ) -> None:
        if context is not None and context > model.trained_context:
            what = f"{context} positions are requested, it was trained for {model.trained_context}"
            raise InvalidInput(Problem(name, what, "request fewer"))
        super().__init__(
            name=name,
            artifact=artifact,
            runtime=model.llama.runtime,
            threads=threads,
            vocabulary=model.vocabulary,
            context=context or min(DEFAULT_CONTEXT, model.trained_context),
            longest=model.trained_context,
            end_tokens=_Ends(model),
        )
        self.system = model.llama.system
        self._model = model
        self._cache = cache_facts(header)  # the header contains the whole vocabulary
        self.cache_type = cache_type(header, kv)
        template = header.get("tokenizer.chat_template")  # of a file from an untrusted source
        self.chat_template = template if isinstance(template, str) else None
        self.special_tokens = _special_tokens(header)
        self._every: bool | None = None  # the purpose of the open context

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """See `LanguageModel.tokens`; by the vocabulary in the file."""
        return self._model.tokens(text, special)

    def _piece(self, token_id: int) -> bytes:
        return self._model.piece(token_id)

    def cache_bytes(self, context: int) -> int:
        """See `LanguageModel.cache_bytes`."""
        size = BYTES_PER_VALUE[self.cache_type]
        return self._cache.bytes(context, size, min(PROMPT, context))

    def _clear(self) -> None:
        self._model.clear()

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        if self._every is not every:
            self._open(every)
        return self._model.decode(token_ids, every)

    def _open(self, every: bool) -> None:
        """A text is scored at every position or at the last ones; a caller rarely needs both.

        Room for the logits of every position would be most of a small model's memory.
        """
        self._every = None
        batch = min(_SCORED if every else PROMPT, self.context)
        kind = GGML_TYPES[self.cache_type]
        self._model.open_context(
            n_ctx=self.context,
            n_batch=batch,
            n_ubatch=batch,
            n_outputs_max=batch if every else 1,
            n_outputs_max_per_seq=batch if every else 1,
            n_threads=self.threads,
            n_threads_batch=self.threads,
            type_k=kind,
            type_v=kind,
            flash_attn_type=int(self.cache_type in QUANTIZED),
            swa_full=False,
        )
        self._every = every


def _special_tokens(header: Header) -> dict[str, str]:
    """The spellings of special tokens, by the names that chat templates use."""
    tokens = header.get("tokenizer.ggml.tokens", ())
    spelled = {}
    for name, key in SPECIAL_TOKENS.items():
        id = header.get(f"tokenizer.ggml.{key}")
        if isinstance(tokens, Sequence) and isinstance(id, int) and 0 <= id < len(tokens):
            spelled[name] = str(tokens[id])
    return spelled


class GgufEncoder(Model):
    """A sentence encoder on llama.cpp, with the pooling named in its file."""

    kind = "a sentence encoder"
    verbs = "embed() or run()"

    def __init__(
        self,
        model: LlamaModel,
        name: str,
        artifact: Artifact | None,
        header: Header,
        threads: int,
    ) -> None:
        self.name, self.artifact, self.threads = name, artifact, threads
        self.runtime, self.system = model.llama.runtime, model.llama.system
        self._model = model
        pooling = header.get(f"{header.get('general.architecture', '')}.pooling_type", 0)
        if pooling not in (1, 2, 3):  # enum llama_pooling_type: mean, first token, last
            what = f"its pooling type is {pooling}: it gives no embedding for a text"
            raise InvalidInput(Problem(str(model.path), what, "build it again"))
        text = artifact.text if artifact else None
        self._text = text
        self._width = (artifact.dimension if artifact else None) or model.width
        self.max_tokens = min(
            model.trained_context, text.max_tokens if text else model.trained_context
        )
        model.open_context(
            n_ctx=self.max_tokens,
            n_batch=self.max_tokens,
            n_ubatch=self.max_tokens,
            n_threads=threads,
            n_threads_batch=threads,
            embeddings=True,
        )

    def embed(
        self, texts: Sequence[str], *, prompt: str | None = None, prompt_name: str | None = None
    ) -> Floats:
        """See `Model.embed`. Longer texts are truncated at `max_tokens`; texts are run one at a
        time.
        """
        if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
            found = type(texts).__name__
            raise InvalidInput(Problem("texts", f"is a {found}", "give a list of str: ['a text']"))
        vectors = np.empty((len(texts), self._width), np.float32)
        from edgeq.formats.text import prompted  # imports the tokenizers package

        for index, text in enumerate(prompted(self._text, texts, prompt, prompt_name)):
            vectors[index] = self._vector(np.array(self.tokens(text), np.int32))
        return vectors

    def tokens(self, text: str) -> list[int]:
        """Token ids, including special tokens; truncated before the last at `max_tokens`."""
        ids = self._model.tokens(text)
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    def tokenize(self, text: TextOrPair) -> dict[str, Array]:
        """The input of `run` for one text: int64 (1, tokens)."""
        if not isinstance(text, str):
            raise InvalidInput(Problem("text", f"is a {type(text).__name__}", "give a str"))
        return {"input_ids": np.array([self.tokens(text)], np.int64)}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """`input_ids` of one text, integers (1, tokens), to `sentence_embedding` (1, dimension)."""
        ids = np.asarray(feeds.get("input_ids", ()))
        fits = ids.ndim == 2 and len(ids) == 1 and 0 < ids.shape[1] <= self.max_tokens
        if list(feeds) != ["input_ids"] or not fits or not np.issubdtype(ids.dtype, np.integer):
            what = f"{', '.join(feeds) or 'nothing'} of shape {ids.shape} is not a valid input"
            remedy = f"give input_ids: integers (1, n), n from 1 to {self.max_tokens}"
            raise InvalidInput(Problem(self.name, what, remedy))
        if ids.min() < 0 or ids.max() >= self._model.vocabulary:
            what = f"has tokens outside the vocabulary of {self._model.vocabulary}"
            raise InvalidInput(Problem("input_ids", what, "take them from tokens()"))
        return {"sentence_embedding": self._vector(ids[0].astype(np.int32))[None]}

    def _vector(self, token_ids: Ids) -> Floats:
        vector = self._model.encode(token_ids)
        if self._text is None or self._text.normalize:
            vector /= max(np.linalg.norm(vector), np.finfo(np.float32).tiny)
        return vector[: self._width]
