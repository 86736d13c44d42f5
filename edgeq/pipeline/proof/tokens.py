"""Compares the tokenizer that edgeq ships with the original's, on texts that are hard to cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import TextOrPair
from edgeq.formats.hard_texts import texts_with
from edgeq.formats.tokenizer import encode, open_tokenizer
from edgeq.models.huggingface import TextFiles


class Original(Protocol):
    """The library's token ids for a text."""

    def ids(self, text: str) -> list[int]:
        """Token ids of the whole text, special tokens included."""
        ...

    def added(self) -> list[str]:
        """The tokens that are found whole in any text."""
        ...


def require_same_tokens(files: TextFiles, original: Original) -> None:
    """Raise InvalidInput, naming the text, if the two differ in its token ids.

    Texts with a token that the embedding has no row for are left out: the original fails on them.
    """
    tokenizer = open_tokenizer(files.tokenizer_json())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = files.config.get("vocab_size", tokenizer.get_vocab_size())
    for text in texts_with(original.added()):
        wanted = original.ids(text)
        found = encode(tokenizer, text, "text")
        if found != wanted and max(wanted, default=0) < rows:
            what = f"the tokenizer is another one in the library: {part(found, wanted, text)}"
            remedy = "save it again: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            raise InvalidInput(Problem(str(files.tokenizer), what, remedy))


def part(found: Sequence[int], wanted: Sequence[int], text: TextOrPair) -> str:
    """Where the ids of a text part."""
    pairs = enumerate(zip(found, wanted, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), min(len(found), len(wanted)))
    counts = f"{len(found)} here, {len(wanted)} in the library"
    return f"they part in the tokens of {str(text)[:60]!r}: {counts}, the first other one at {at}"
