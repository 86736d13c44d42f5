"""Whether a file has the layers and widths of its reference model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import Header
from edgeq.models.architectures import Decoder, decoder_of
from edgeq.models.huggingface import read_directory
from edgeq.pipeline.audit.plain import length, text, whole
from edgeq.pipeline.audit.records import Finding, Outcome


def judge_structure(header: Header, directory: Path) -> tuple[Outcome, list[Finding]]:
    """Compare the file's layers, widths, heads and vocabulary with the reference's config.json.

    Facts that the file does not state are not compared; `judge_metadata` reports them as missing.
    """
    try:
        decoder = decoder_of(read_directory(directory, "--reference").config, "--reference")
    except InvalidInput as error:
        reason = "; ".join(problem.what for problem in error.problems)
        what = f"layers and widths could not be compared with the reference's: {reason}"
        finding = Finding(subject="structure", matters=False, what=what)
        return Outcome(how="not run", passed=None, detail=reason), [finding]
    compared = [
        (name, own, wanted) for name, own, wanted in _facts(header, decoder) if own is not None
    ]
    differing = [
        f"{_shown(own)} {name}, not {_shown(wanted)}"
        for name, own, wanted in compared
        if own != wanted
    ]
    if not compared:
        what = "layers and widths could not be compared with the reference's: the file has none"
        finding = Finding(subject="structure", matters=False, what=what)
        return Outcome(how="not run", passed=None, detail="the file states none"), [finding]
    if differing:
        what = f"it is not the reference model: it has {'; '.join(differing)}"
        finding = Finding(subject="structure", matters=True, what=what)
        return Outcome(how="measured", passed=False, detail="; ".join(differing)), [finding]
    shown = ", ".join(f"{_shown(wanted)} {name}" for name, _, wanted in compared)
    return Outcome(how="measured", passed=True, detail=shown), []


def _facts(header: Header, decoder: Decoder) -> list[tuple[str, list[int] | None, list[int]]]:
    """Name, the file's distinct values (None if it states none), and the reference's."""
    heads = _numbers(header, "attention.head_count")
    attend = [layer for layer in range(decoder.layers) if decoder.attends(layer)]
    kv_heads = sorted({decoder.kv_heads_of(layer) for layer in attend})
    wide = sorted(set(decoder.feed_forwards)) or [decoder.feed_forward]
    return [
        ("layers", _numbers(header, "block_count"), [decoder.layers]),
        ("hidden values", _numbers(header, "embedding_length"), [decoder.hidden]),
        ("heads", heads, [decoder.heads]),
        ("key-value heads", _kv_heads(header) or heads, kv_heads),
        ("feed-forward values", _numbers(header, "feed_forward_length"), wide),
        ("rows of the vocabulary", _rows(header), [decoder.vocabulary]),
    ]


def _kv_heads(header: Header) -> list[int]:
    """The number of key-value heads of each layer with attention."""
    return [count for count in _numbers(header, "attention.head_count_kv") or () if count]


def _numbers(header: Header, name: str) -> list[int] | None:
    """The distinct values of a key, which may have one per layer."""
    key = f"{text(header, 'general.architecture')}.{name}"
    found = header.metadata.get(key)
    if found is not None and isinstance(found.value, np.ndarray) and found.value.size:
        return [int(value) for value in np.unique(found.value)]
    number = whole(header, key)
    return None if number is None else [number]


def _rows(header: Header) -> list[int] | None:
    """Rows of the embedding; the number of tokens if another part of a split file has it."""
    table = header.tensors.get("token_embd.weight")
    rows = length(header, "tokenizer.ggml.tokens") if table is None else table.shape[0]
    return None if rows is None else [rows]


def _shown(values: Sequence[int]) -> str:
    return "/".join(map(str, values))
