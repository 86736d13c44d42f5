"""Ordinary tokens that llama.cpp takes for control tokens, because of how they are spelled.

llama.cpp finds such a token in every text before it cuts words, ends an answer at some, and prints
none. A byte-level vocabulary may hold one by chance: Qwen's has `</s>`, a piece that its own
tokenizer never makes of a text, since a word holds letters or signs and not both. In the file such
a token gets a space behind it, so that texts are read and end as the model's own do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tokenizers import Tokenizer

from edgeq.formats.gguf.tokens import Tokens, TokenType
from edgeq.models.special_tokens import USUAL_ENDS

_BYTE_SPACE = "\u0120"  # how byte-level vocabularies write a space
# What fills gaps in code; with the ends, all that llama.cpp knows by spelling.
_FILLS = frozenset(
    {
        *("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>"),
        *("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>"),
        *("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>"),
        *("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
        *("<|prefix|>", "<|suffix|>", "<|middle|>", "[PAD]"),
    }
)
TAKEN_FOR_CONTROL = USUAL_ENDS | _FILLS
"""Spellings of tokens that are control tokens to llama.cpp, whatever a file says."""


def spellings(text: str) -> tuple[str, ...]:
    """The possible spellings of an ordinary token in a GGUF file with a byte-level vocabulary."""
    return (text, text + _BYTE_SPACE) if text in TAKEN_FOR_CONTROL else (text,)


def keep_ordinary(tokens: Tokens, tokenizer: Tokenizer) -> tuple[Tokens, tuple[str, ...]]:
    """`tokens`, with ordinary ones respelled that would become control tokens; a note for each.

    Tokens that occur in tokenized text are left alone: under another spelling they would not match.
    """
    if tokens.model != "gpt2":
        return tokens, ()
    rows = [row for row in _mistaken(tokens) if not _is_read(tokens.texts[row], row, tokenizer)]
    texts = [*tokens.texts]
    notes = []
    for row in rows:
        texts[row] += _BYTE_SPACE
        notes.append(
            f"the token {row}, {tokens.texts[row]!r}, is printed with a space behind it: "
            "llama.cpp would take it for a control token, and no text is read as it"
        )
    return replace(tokens, texts=texts), tuple(notes)


def _mistaken(tokens: Tokens) -> Iterator[int]:
    known = set(tokens.texts)
    for row, text in enumerate(tokens.texts):
        is_ordinary = text in TAKEN_FOR_CONTROL and tokens.types[row] == TokenType.NORMAL
        if is_ordinary and text + _BYTE_SPACE not in known:
            yield row


def _is_read(text: str, row: int, tokenizer: Tokenizer) -> bool:
    places = (text, f" {text}", f"a{text}b", f"1{text}\n", f".{text}.")
    return any(row in tokenizer.encode(each, add_special_tokens=False).ids for each in places)
