"""Verify that a vocabulary in a GGUF file gives the same token ids as its `tokenizer.json`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer

from edgeq.core.errors import EdgeqError, InvalidInput, Problem
from edgeq.core.store import code_version
from edgeq.core.temporary import TemporaryFolder
from edgeq.formats import runtime_cache
from edgeq.formats.gguf.header import MetaValue
from edgeq.formats.gguf.reading import Reading, read_texts
from edgeq.formats.gguf.tokens import WORD_START
from edgeq.formats.gguf.vocabulary import load_tokenizer
from edgeq.formats.gguf.writer import header_bytes, write_gguf
from edgeq.formats.hard_texts import ODD_TEXTS, ORDINARY_TEXTS, texts_of
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.special_tokens import end_tokens
from edgeq.quantize.ggml.llama_api import chosen_build

_SAMPLES, _PIECES = 400, 6
# Largest share of odd texts that may differ; above it, the tokenizer is a different one.
_MOST_ODD = 0.05
_SHOWN, _AROUND = 3, 12
_STAGE, _NOTES = "tokens", "notes.json"


class KnownDifferences:
    """Deviations of llama.cpp from every tokenizer of a kind that no metadata can fix.

    notes: remarks for callers of llama.cpp. Found by comparing every character of Unicode 14.
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
        self._has_runs = any(set(token.content) == {WORD_START} for token in added)
        self.notes = tuple(self._notes())

    def without(self, text: str) -> str:
        """`text` without known differences: the rest must give equal ids."""
        if self._has_runs:
            text = text.replace(WORD_START, "")
        if self._form:
            text = unicodedata.normalize(self._form, text)
        if self._is_bert:
            text = "".join(c for c in text if not self._differs_in_bert(c))
        return text

    def _notes(self) -> Iterator[str]:
        if self._form:
            yield f"text must be in Unicode's {self._form}: llama.cpp does not normalize it"
        if self._is_bert:
            yield (
                "llama.cpp's WordPiece splits at form feeds and vertical tabs, and splits words "
                "of more than 100 characters"
            )
        if self._strips:
            yield (
                "together with accents, llama.cpp's WordPiece removes the spacing marks of Indic "
                "scripts, and all but the first sound of Hangul syllables"
            )
        if self._has_runs:
            yield "a U+2581 in a text is a space to llama.cpp, and may be a separate token"

    def _differs_in_bert(self, character: str) -> bool:
        if character in "\v\f\x85\u166d\u2581":  # spaces or letters to one, nothing to the other
            return True
        marks = unicodedata.category(character) in ("Mc", "Me")
        return self._strips and (marks or "\uac00" <= character <= "\ud7a3")


def require_parity(
    directory: ModelDirectory, metadata: Mapping[str, MetaValue], rows: int
) -> tuple[str, ...]:
    """Compare llama.cpp's token ids with the ids from `tokenizers`, on ordinary and odd texts.

    metadata: of the whole file; llama.cpp reads only the vocabulary, in a separate process.
    rows: of the embedding; texts with tokens beyond it are omitted. A passed comparison is
    cached on this machine. Returns notes for callers of llama.cpp: the notes of
    `KnownDifferences`, odd texts that differ, and end tokens that only llama.cpp recognizes.
    Raises InvalidInput with the first ordinary text that differs and both lists of ids.
    """
    # From the rest llama.cpp reads only the name, which is chosen by the tokenizer.
    described = {
        key: value
        for key, value in metadata.items()
        if key.startswith("tokenizer.") or key == "general.architecture"
    }
    key = {
        "said": hashlib.sha256(header_bytes(described, [])).hexdigest(),
        "tokenizer": hashlib.sha256(directory.tokenizer_json()).hexdigest(),
        "rows": rows,
        "runtime": chosen_build(),
        "code": code_version(),
    }
    store = None
    with contextlib.suppress(InvalidInput):  # a cache that others can write is not used
        store = runtime_cache.store()
        known = store.find(_STAGE, key)
        if known is not None:
            return tuple(json.loads((known / _NOTES).read_text(encoding="utf-8")))
    notes = _compared(directory, metadata, rows)
    if store is not None:
        with contextlib.suppress(EdgeqError):  # compared again if nothing can be written
            store.stage(_STAGE, key, partial(_write, notes), describe=str(directory.path))
    return notes


def _write(notes: Sequence[str], place: Path) -> None:
    (place / _NOTES).write_text(json.dumps(notes), encoding="utf-8")


def _compared(
    directory: ModelDirectory, metadata: Mapping[str, MetaValue], rows: int
) -> tuple[str, ...]:
    tokenizer = load_tokenizer(directory.tokenizer_json(), str(directory.tokenizer))
    known = KnownDifferences(tokenizer)
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    ordinary = [known.without(text) for text in (*ORDINARY_TEXTS, *texts_of(added))]
    odd = [known.without(text) for text in (*ODD_TEXTS, *_random_texts(tokenizer))]
    with TemporaryFolder() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_gguf(path, metadata, [], lambda name: ())
        reading = read_texts(path, [*ordinary, *odd])
    parts = [*_parts(tokenizer, ordinary, reading, rows, 0)]
    if parts:
        raise _differs(directory.tokenizer, parts[0])
    parts = [*_parts(tokenizer, odd, reading, rows, len(ordinary))]
    if len(parts) > _MOST_ODD * 2 * len(odd):
        raise _differs(directory.tokenizer, parts[0])
    notes = (*known.notes, *_odd_notes(parts))
    if metadata["tokenizer.ggml.model"].value == "bert":
        return notes
    return (*notes, *_ends_apart(directory, tokenizer, reading, rows))


@dataclass(frozen=True)
class _Parting:
    """A text, its ids from both, and an excerpt from the first difference."""

    text: str
    wanted: list[int]
    found: list[int]
    place: str


def _parts(
    tokenizer: Tokenizer, texts: Sequence[str], reading: Reading, rows: int, first: int
) -> Iterator[_Parting]:
    """Texts that the two tokenize differently, with special tokens around them and without."""
    for index, text in enumerate(texts):
        for special, ids in ((True, reading.whole), (False, reading.plain)):
            encoding, found = tokenizer.encode(text, add_special_tokens=special), ids[first + index]
            wanted = encoding.ids
            if max(wanted, default=0) < rows and wanted != found:
                both = zip(wanted, found, strict=False)
                equal = (at for at, (one, other) in enumerate(both) if one != other)
                at = next(equal, min(len(wanted), len(found)))
                start = encoding.offsets[at][0] if at < len(wanted) else len(text)
                place = text[max(0, start - _AROUND // 3) : start + _AROUND]
                yield _Parting(text, wanted, found, place)


def _odd_notes(parts: Sequence[_Parting]) -> Iterator[str]:
    if parts:
        places = [*dict.fromkeys(part.place for part in parts)]
        shown = ", ".join(map(repr, places[:_SHOWN]))
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        yield f"llama.cpp reads these as other tokens than the model's tokenizer: {shown}{more}"


def _ends_apart(
    directory: ModelDirectory, tokenizer: Tokenizer, reading: Reading, rows: int
) -> Iterator[str]:
    """Where llama.cpp ends a text and the model does not; raises InvalidInput for the opposite."""
    where = str(directory.path)
    wanted = set(end_tokens(directory.path, directory.config, where))
    found = {id for id in reading.ends if id < rows}
    if wanted - found:
        what = f"llama.cpp would not stop at the token {min(wanted - found)}, which ends a text"
        raise InvalidInput(Problem(where, what, "build this model for ONNX"))
    more = [repr(tokenizer.id_to_token(id) or str(id)) for id in sorted(found - wanted)]
    if more:
        yield f"llama.cpp also stops at {', '.join(more)}, because of the spelling"


def _random_texts(tokenizer: Tokenizer) -> Iterator[str]:
    """Random pieces of the vocabulary in sequence, which nobody would write."""
    choice = random.Random(0)
    size = tokenizer.get_vocab_size()
    for _ in range(_SAMPLES):
        yield tokenizer.decode([choice.randrange(size) for _ in range(_PIECES)])


def _differs(tokenizer: Path, part: _Parting) -> InvalidInput:
    what = (
        f"llama.cpp would read {part.text!r} as {part.found}, the tokenizer reads it as "
        f"{part.wanted}: the file would differ from its model"
    )
    return InvalidInput(Problem(str(tokenizer), what, "build this model for ONNX"))
