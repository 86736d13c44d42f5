"""Proof that a vocabulary in a GGUF file gives the token ids its `tokenizer.json` gives."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.formats.gguf.header import MetaValue
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.tokens import WORD_START
from edgeq.formats.gguf.writer import write_gguf
from edgeq.formats.hard_texts import texts_with
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.special_tokens import end_tokens

_SAMPLES, _PIECES = 400, 6


class KnownDifferences:
    """What llama.cpp does otherwise than every tokenizer of a kind, and no metadata cures.

    notes: what a caller of llama.cpp has to mind. Found by comparing every character of Unicode 14.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        normalizer = tokenizer.normalizer
        kind = type(normalizer).__name__
        forms: dict[str, Literal["NFC", "NFKC"]] = {"NFC": "NFC", "NFKC": "NFKC"}
        self._form = forms.get(kind)
        self._is_bert = kind == "BertNormalizer"
        self._strips = self._is_bert and bool(
            normalizer.lowercase if normalizer.strip_accents is None else normalizer.strip_accents
        )
        # Gemma's runs of spaces are added tokens, spelled as its vocabulary spells them.
        added = tokenizer.get_added_tokens_decoder().values()
        self._has_runs = any(WORD_START in token.content for token in added)
        self.notes = tuple(self._notes())

    def without(self, text: str) -> str:
        """`text` without what differs: what remains has to give equal ids."""
        if self._has_runs:
            text = text.replace(WORD_START, "")
        if self._form:
            text = unicodedata.normalize(self._form, text)
        if self._is_bert:
            text = "".join(c for c in text if not self._differs_in_bert(c))
        return text

    def _notes(self) -> Iterator[str]:
        if self._form:
            yield f"text must be in Unicode's {self._form}: llama.cpp does not bring it there"
        if self._is_bert:
            yield (
                "llama.cpp's WordPiece splits at form feeds and vertical tabs, and cuts words of "
                "more than 100 characters into pieces"
            )
        if self._strips:
            yield (
                "with the accents, llama.cpp's WordPiece takes away the spacing marks of Indic "
                "scripts, and of Hangul syllables all but the first sound"
            )
        if self._has_runs:
            yield "a U+2581 in a text is a space to llama.cpp, and may be a token of its own"

    def _differs_in_bert(self, character: str) -> bool:
        if character in "\v\f\x85\u166d\u2581":  # spaces or letters to one, nothing to the other
            return True
        marks = unicodedata.category(character) in ("Mc", "Me")
        return self._strips and (marks or "\uac00" <= character <= "\ud7a3")


def require_parity(
    directory: ModelDirectory, metadata: Mapping[str, MetaValue], rows: int
) -> tuple[str, ...]:
    """Compare llama.cpp's token ids with those of `tokenizers` on hard texts.

    metadata: of the whole file; llama.cpp reads the vocabulary alone. rows: of the embedding; texts
    with tokens beyond are left out. Gives back the notes of `KnownDifferences`. Raises InvalidInput
    with the first text that differs and both lists of ids.
    """
    tokenizer = directory.tokenizer
    reference = Tokenizer.from_buffer(directory.tokenizer_json())
    reference.no_truncation()
    reference.no_padding()
    known = KnownDifferences(reference)
    with TemporaryFolder() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_gguf(path, metadata, [], lambda name: ())
        model = LlamaModel(path, vocabulary_only=True)
        for text in _texts(reference):
            given = known.without(text)
            for special in (True, False):
                wanted = reference.encode(given, add_special_tokens=special).ids
                if max(wanted, default=0) >= rows:
                    continue
                found = model.tokens(given, special)
                if found != wanted:
                    raise _differs(tokenizer, given, wanted, found)
        if metadata["tokenizer.ggml.model"].value == "bert":
            return known.notes
        return (*known.notes, *_ends_apart(directory, model, rows))


def _ends_apart(directory: ModelDirectory, model: LlamaModel, rows: int) -> Iterator[str]:
    """Where llama.cpp ends a text and the model does not; raises InvalidInput the other way."""
    where = str(directory.path)
    wanted = set(end_tokens(directory.path, directory.config, where))
    found = {id for id in range(rows) if model.ends(id)}
    if wanted - found:
        what = f"llama.cpp would not stop at the token {min(wanted - found)}, which ends a text"
        raise InvalidInput(Problem(where, what, "build this model for ONNX"))
    if found - wanted:
        yield f"llama.cpp stops at the token {min(found - wanted)} too, by its spelling"


def _texts(tokenizer: Tokenizer) -> Iterable[str]:
    """The hard texts, every special token at work, and pieces of the vocabulary side by side."""
    yield from texts_with([t.content for t in tokenizer.get_added_tokens_decoder().values()])
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
