"""Gaps in a file's metadata: facts that a runtime or a person needs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeq.formats.gguf.header import Header
from edgeq.pipeline.audit.plain import length, text, whole
from edgeq.pipeline.audit.records import Finding

_LAYER = re.compile(r"blk\.(\d{1,9})\.")
# llama.cpp opens no language model without these
_SHAPE = ("context_length", "embedding_length", "block_count", "feed_forward_length")
# below 4 bits, rounding without an importance matrix is costly
_LOW = ("IQ1_", "IQ2_", "IQ3_", "Q2_K", "Q3_K")


def judge_metadata(header: Header) -> list[Finding]:
    """List metadata that is missing or contradicts the tensors."""
    return [
        Finding(subject="metadata", matters=matters, what=what)
        for part in (_model, _words, _ends, _origin, _trailing)
        for matters, what in part(header)
    ]


def is_language_model(header: Header) -> bool:
    """Whether the file is a model that generates text; False for encoders, adapters, projectors."""
    arch = text(header, "general.architecture")
    causal = header.metadata.get(f"{arch}.attention.causal")
    return (
        text(header, "general.type") in (None, "model")
        and arch != "clip"
        and not (causal is not None and causal.value is False)
    )


def _model(header: Header) -> Iterator[tuple[bool, str]]:
    arch = text(header, "general.architecture")
    if not arch:
        yield True, "general.architecture is missing: no runtime can identify the model"
        return
    if is_language_model(header):
        for name in (*_SHAPE, "attention.head_count"):
            if f"{arch}.{name}" not in header.metadata:
                yield True, f"{arch}.{name} is missing"
        if f"{arch}.rope.freq_base" not in header.metadata:
            yield False, f"{arch}.rope.freq_base is missing: 10000 is assumed"
    if not header.tensors:
        kind = "a vocabulary" if text(header, "tokenizer.ggml.model") else "metadata"
        yield True, f"it holds {kind} and no weights: it is not a model"
        return
    layers, found = whole(header, f"{arch}.block_count"), _layers(header)
    if layers is not None and (whole(header, "split.count") or 1) == 1 and found < layers:
        yield True, f"it states {layers} layers, and has {found}"


def _trailing(header: Header) -> Iterator[tuple[bool, str]]:
    """Bytes that no tensor owns; writers fill the last one up to the alignment."""
    ends = (entry.offset + entry.nbytes for entry in header.tensors.values())
    end = max(ends, default=header.data_start)
    more = header.file_bytes - -(-end // header.alignment) * header.alignment
    if more > 0:
        count = f"{more:,} bytes follow" if more > 1 else "a byte follows"
        yield False, f"{count} the last tensor: nothing reads them, and the hash covers them"


def _layers(header: Header) -> int:
    found = [int(match.group(1)) for match in map(_LAYER.match, header.tensors) if match]
    return max(found, default=-1) + 1


def _words(header: Header) -> Iterator[tuple[bool, str]]:
    model, tokens = text(header, "tokenizer.ggml.model"), length(header, "tokenizer.ggml.tokens")
    if model is None or tokens is None:
        if is_language_model(header):
            yield True, "it has no vocabulary (tokenizer.ggml.model, tokenizer.ggml.tokens)"
        return
    if model == "gpt2":
        pre = text(header, "tokenizer.ggml.pre")
        if pre is None:
            why = "text is split by a rule that is wrong for most models"
            yield True, f"tokenizer.ggml.pre is missing: {why}"
        elif pre == "default":
            yield False, "tokenizer.ggml.pre is 'default', a rule few models were trained with"
        if length(header, "tokenizer.ggml.merges") is None:
            yield True, "tokenizer.ggml.merges is missing: text cannot be tokenized"
    for name in ("scores", "token_type"):
        count = length(header, f"tokenizer.ggml.{name}")
        if count not in (None, tokens):
            yield True, f"{tokens} tokens, but {count} entries in tokenizer.ggml.{name}"
    table = header.tensors.get("token_embd.weight")
    if table is not None and table.shape[0] != tokens:
        yield True, f"the vocabulary has {tokens} tokens, and the embedding {table.shape[0]}"


def _ends(header: Header) -> Iterator[tuple[bool, str]]:
    tokens = length(header, "tokenizer.ggml.tokens")
    if not is_language_model(header) or tokens is None:
        return
    for name, matters, why in (
        ("bos", False, "no such token, or a default one, is put before a text"),
        ("eos", True, "an answer may never end"),
    ):
        key = f"tokenizer.ggml.{name}_token_id"
        token = whole(header, key)
        if key not in header.metadata:
            yield matters, f"{key} is missing: {why}"
        elif token is None or not 0 <= token < tokens:
            yield True, f"{key} is not one of the {tokens} tokens"
    if not text(header, "tokenizer.chat_template"):
        yield (
            False,
            "it has no chat template: correct only for a model not trained to chat",
        )


def _origin(header: Header) -> Iterator[tuple[bool, str]]:
    if not text(header, "general.license"):
        yield False, "general.license is missing: its terms of use are unknown"
    known = ("general.source.url", "general.source.huggingface.repository", "general.base_model")
    if not any(key.startswith(known) for key in header.metadata):
        yield False, "its origin is not stated (general.base_model, general.source)"
    low = any(entry.type.name.startswith(_LOW) for entry in header.tensors.values())
    data = text(header, "quantize.imatrix.dataset")
    if any(key.startswith("quantize.imatrix.") for key in header.metadata):
        if not data:
            yield False, "an importance matrix was used, and its calibration text is not stated"
    elif low:
        yield (
            False,
            (
                "it has types of fewer than 4 bits, and does not state that an importance matrix "
                "was used"
            ),
        )
