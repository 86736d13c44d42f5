"""A Hugging Face directory run by transformers in float32, as `edgeq.load` runs artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.formats.base import Floats, Model
from edgeq.formats.language import Ids, LanguageModel
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.architectures import decoder_of
from edgeq.models.huggingface import ModelDirectory, read_directory
from edgeq.models.original.decoder import OriginalDecoder
from edgeq.models.original.encoder import OriginalEncoder, open_encoder
from edgeq.models.special_tokens import end_tokens


def load(path: Path, *, threads: int) -> TransformersModel:
    """Open the model in `path` on the CPU, its weights widened to float32.

    threads: of one run; torch keeps one number for the whole process, and this sets it. Raises
    Missing where torch or transformers is not installed, InvalidInput for a directory without a
    whole language model of a built-in architecture in full precision.
    """
    directory = read_directory(path, str(path))
    try:
        import torch

        original = OriginalDecoder(directory)
    except ImportError as error:
        purpose = "run a Hugging Face directory"
        raise missing_extra(error.name or "torch", "build", purpose) from None
    torch.set_num_threads(threads)
    return TransformersModel(directory, original, threads)


def load_encoder(path: Path, *, threads: int) -> EncoderModel:
    """Open the sentence encoder in `path`, as `load` opens a language model."""
    original = open_encoder(read_directory(path, str(path)))
    import torch

    torch.set_num_threads(threads)
    return EncoderModel(path.name, original, threads)


class EncoderModel(Model):
    """A sentence encoder executed by its own library."""

    kind = "a sentence encoder"
    verbs = "embed() or tokens()"
    artifact = None

    def __init__(self, name: str, original: OriginalEncoder, threads: int) -> None:
        self.name, self.threads, self.runtime = name, threads, original.runtime
        self._original = original

    def embed(
        self, texts: Sequence[str], *, prompt: str | None = None, prompt_name: str | None = None
    ) -> Floats:
        """See `Model.embed`; behind the default prompt alone."""
        if prompt is not None or prompt_name is not None:
            what = "the original is run behind the default prompt"
            raise InvalidInput(Problem(self.name, what, "leave prompt and prompt_name out"))
        return np.concatenate([self._original.answer(text) for text in texts])

    def tokens(self, text: str) -> list[int]:
        """See `Model.tokens`."""
        return self._original.ids(text)


class TransformersModel(LanguageModel):
    """A decoder executed by transformers, with its own cache of keys and values."""

    def __init__(self, directory: ModelDirectory, original: OriginalDecoder, threads: int) -> None:
        settings = original.network.config.get_text_config()
        ends = end_tokens(directory.path, directory.config, str(directory.path))
        super().__init__(
            name=directory.path.name,
            artifact=None,
            runtime=original.runtime,
            threads=threads,
            vocabulary=int(settings.vocab_size),
            context=int(settings.max_position_embeddings),
            end_tokens=frozenset(ends),
        )
        self._directory = directory
        self._original = original
        self._tokenizer = DecoderTokenizer(directory.tokenizer_json())

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """See `LanguageModel.tokens`; by `tokenizer.json`, which transformers may overrule."""
        return self._tokenizer.ids(text, special)

    def _piece(self, token_id: int) -> bytes:
        return self._tokenizer.piece(token_id)

    def cache_bytes(self, context: int) -> int:
        """Keys and values in float32; windowed layers keep no more than their window."""
        decoder = decoder_of(self._directory.config, str(self._directory.path))
        return int(decoder.cache_bytes(context, bytes_per_value=4))

    def _clear(self) -> None:
        self._original.clear()

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        return self._original.append(token_ids, last=0 if every else 1)
