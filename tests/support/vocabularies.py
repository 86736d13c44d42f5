"""Model directories with a tokenizer, and vocabularies as files that llama.cpp opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import (
    Tokenizer,
)

from edgeq.formats.gguf.header import MetaValue
from edgeq.formats.gguf.vocabulary import Vocabulary
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.sentence_head import Normalize, SentenceHead
from tests.support import tiny_decoders

# What llama.cpp wants of a model before it reads a vocabulary.
NUMBERS = {
    **{"block_count": 1, "context_length": 32, "embedding_length": 32, "feed_forward_length": 32},
    **{"attention.head_count": 1, "attention.head_count_kv": 1, "rope.dimension_count": 32},
}


def directory_of(folder: Path, **config: Any) -> ModelDirectory:
    """A model directory with nothing but a tokenizer."""
    return ModelDirectory(
        path=folder,
        config=config,
        tensors={},
        weight_files=(),
        tokenizer=folder / "tokenizer.json",
        head=SentenceHead(("mean",), (Normalize(),)),
        max_tokens=32,
        licence=None,
    )


def save(folder: Path, tokenizer: Tokenizer, **settings: Any) -> ModelDirectory:
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory_of(folder)


def save_style(folder: Path, style: str, **more: Any) -> ModelDirectory:
    names = tiny_decoders.special_names(style)
    return save(folder, tiny_decoders.tokenizer_of(style), **names, **more)


def whole(vocabulary: Vocabulary) -> dict[str, MetaValue]:
    """The metadata with what llama.cpp needs besides to open a file."""
    return {
        "general.architecture": MetaValue("string", "llama"),
        "llama.attention.layer_norm_rms_epsilon": MetaValue("float32", 1e-5),
        **{f"llama.{name}": MetaValue("uint32", value) for name, value in NUMBERS.items()},
        **vocabulary.metadata,
    }


def values(vocabulary: Vocabulary) -> dict[str, Any]:
    """Plain values by the end of their keys."""
    return {
        key.removeprefix("tokenizer.").removeprefix("ggml."): value.value
        for key, value in vocabulary.metadata.items()
    }
