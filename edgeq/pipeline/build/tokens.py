"""Token ids of texts as a language model reads them."""

from __future__ import annotations

from collections.abc import Callable

from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.model import DescribedModel

ReadText = Callable[[str, bool], list[int]]
"""The ids of a text; True adds the tokens that the model expects around one."""


def text_reader(model: DescribedModel) -> ReadText:
    """By its tokenizer, or by llama.cpp for a GGUF file that only llama.cpp knows."""
    if model.unread is not None:
        from edgeq.formats.gguf.llama_model import LlamaModel

        return LlamaModel(model.unread, vocabulary_only=True).tokens
    assert model.directory is not None
    return DecoderTokenizer(model.directory.tokenizer_json()).ids
