"""Proof that a vocabulary in a GGUF file gives the token ids its `tokenizer.json` gives."""

from __future__ import annotations

import random
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import Tokenizer

from edgeq.errors import InvalidInput, Problem
from edgeq.gguf.hard_texts import HARD_TEXTS
from edgeq.gguf.header import MetaValue
from edgeq.gguf.llama_model import LlamaModel
from edgeq.gguf.writer import write_gguf

_SAMPLES, _PIECES = 400, 6
_MOST_SPECIAL = 300


def require_parity(
    tokenizer: Path, metadata: Mapping[str, MetaValue], rows: int
) -> tuple[str, ...]:
    """Compare llama.cpp's token ids with those of `tokenizers` on hard texts.

    metadata: of the whole file; llama.cpp reads the vocabulary alone. rows: of the embedding; texts
    with tokens beyond are left out. Gives back what a caller of llama.cpp has to know. Raises
    InvalidInput with the first text that differs and both lists of ids.
    """
    reference = Tokenizer.from_file(str(tokenizer))
    reference.no_truncation()
    reference.no_padding()
    form = normal_form(reference)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_gguf(path, metadata, [], lambda name: ())
        model = LlamaModel(path, vocabulary_only=True)
        for text in _texts(reference):
            given = unicodedata.normalize(form, text) if form else text
            for special in (True, False):
                wanted = reference.encode(given, add_special_tokens=special).ids
                if max(wanted, default=0) >= rows:
                    continue
                found = model.tokens(given, special)
                if found != wanted:
                    raise _differs(tokenizer, given, wanted, found)
    if not form:
        return ()
    return (f"llama.cpp does not bring text to Unicode's {form}, as the tokenizer does",)


def normal_form(tokenizer: Tokenizer) -> str | None:
    """NFC or NFKC where that is all the tokenizer's normalizer does: llama.cpp has neither."""
    kind = type(tokenizer.normalizer).__name__
    return kind if kind in ("NFC", "NFKC") else None


def _texts(tokenizer: Tokenizer) -> Iterable[str]:
    """The hard texts, every special token at work, and pieces of the vocabulary side by side."""
    yield from HARD_TEXTS
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    step = -(-len(added) // _MOST_SPECIAL) or 1
    for token in added[::step]:
        yield token
        yield f"one{token}two {token} three\n{token}{token}\tfour"
    choice = random.Random(0)
    size = tokenizer.get_vocab_size()
    for _ in range(_SAMPLES):
        yield tokenizer.decode([choice.randrange(size) for _ in range(_PIECES)])


def _differs(tokenizer: Path, text: str, wanted: list[int], found: list[int]) -> InvalidInput:
    what = (
        f"llama.cpp would read {text!r} as {found}, the tokenizer reads it as {wanted}: "
        "the file would be another model than the one it was made from"
    )
    return InvalidInput(Problem(str(tokenizer), what, "build this model for ONNX"))
