"""The list of tokens in a GGUF file, from a `tokenizer.json`: texts, types and scores.

llama.cpp has three relevant tokenizers: byte-level BPE, SentencePiece's BPE (which merges by the
score of the result, where `tokenizers` merges by rank), and WordPiece with the start of a word
marked instead of its continuation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from edgeq.core.errors import InvalidInput, Problem

WORD_START = "▁"  # U+2581
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_CONTINUES = "##"
# Below every score that merging gives: such tokens are found only as a whole.
_ADDED_SCORE, _UNUSED_SCORE = -1e6, -1e7


class TokenType(IntEnum):
    """llama.cpp's `enum llama_token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Tokens:
    """One entry for each row of the embedding.

    model: llama.cpp's name for the tokenizer: `gpt2`, `llama` or `bert`. scores: None if the
    tokenizer has none. merges: in order, "left right"; None without.
    """

    model: str
    texts: list[str]
    types: list[TokenType]
    scores: list[float] | None = None
    merges: list[str] | None = None


def tokens_of(tokenizer: Mapping[str, Any], rows: int, where: str) -> Tokens:
    """The tokens of a `tokenizer.json`, for an embedding of `rows` rows.

    Rows without a token get a placeholder; tokens without a row are omitted, since the model cannot
    read them. Raises InvalidInput at `where` for a tokenizer of another kind.
    """
    model = tokenizer["model"]
    kind, fallback = model.get("type"), bool(model.get("byte_fallback"))
    if kind == "WordPiece" and model.get("continuing_subword_prefix") == _CONTINUES:
        return _word_piece(tokenizer, rows)
    if kind == "BPE" and fallback:
        return _sentence_piece(tokenizer, rows)
    if kind == "BPE" and not model.get("continuing_subword_prefix"):
        return _byte_level(tokenizer, rows)
    what = f"its {kind} model is of a kind that llama.cpp does not have"
    remedy = "supported: byte-level BPE, BPE that falls back to bytes (SentencePiece), WordPiece"
    raise InvalidInput(Problem(where, what, remedy))


def merge_pairs(tokenizer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Merges in order; older files write "left right", newer ones pairs."""
    merges: Sequence[Any] = tokenizer["model"].get("merges") or []
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges)
    return [(left, right) for left, right in pairs]


def _plain(tokenizer: Mapping[str, Any], rows: int) -> tuple[list[str], list[TokenType]]:
    """Texts and types; added tokens are control tokens if special, user-defined if not."""
    texts = [f"[PAD{row}]" for row in range(rows)]
    types = [TokenType.UNUSED] * rows
    for text, row in tokenizer["model"]["vocab"].items():
        if row < rows:
            texts[row], types[row] = text, TokenType.NORMAL
    for added in tokenizer.get("added_tokens") or []:
        if added["id"] < rows:
            texts[added["id"]] = added["content"]
            special = added.get("special")
            types[added["id"]] = TokenType.CONTROL if special else TokenType.USER_DEFINED
    return texts, types


def _byte_level(tokenizer: Mapping[str, Any], rows: int) -> Tokens:
    texts, types = _plain(tokenizer, rows)
    return Tokens("gpt2", texts, types, merges=[" ".join(pair) for pair in merge_pairs(tokenizer)])


def _sentence_piece(tokenizer: Mapping[str, Any], rows: int) -> Tokens:
    """Scores decrease in the order in which merges first produce a token, as in SentencePiece."""
    texts, types = _plain(tokenizer, rows)
    vocabulary = tokenizer["model"]["vocab"]
    made = dict.fromkeys("".join(pair) for pair in merge_pairs(tokenizer))
    score = {text: -float(order) for order, text in enumerate(made)}
    scores = []
    for row, text in enumerate(texts):
        if text == tokenizer["model"].get("unk_token"):
            types[row] = TokenType.UNKNOWN
        elif _BYTE.fullmatch(text):
            types[row] = TokenType.BYTE
        elif types[row] == TokenType.USER_DEFINED and WORD_START in text and text in vocabulary:
            # A run of spaces: as a user-defined token it would be printed as is.
            types[row] = TokenType.NORMAL
        unscored = _UNUSED_SCORE if types[row] == TokenType.UNUSED else _ADDED_SCORE
        scores.append(score.get(text, unscored if len(text) > 1 else 0.0))
    return Tokens("llama", texts, types, scores=scores)


def _word_piece(tokenizer: Mapping[str, Any], rows: int) -> Tokens:
    texts, types = _plain(tokenizer, rows)
    for row, text in enumerate(texts):
        if types[row] in (TokenType.NORMAL, TokenType.USER_DEFINED):
            continues = text.startswith(_CONTINUES)
            texts[row] = text[len(_CONTINUES) :] if continues else WORD_START + text
    return Tokens("bert", texts, types)
