"""Text to token ids, the same in calibration, measurement and an app."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from edgeq.core.artifact import TextSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import TEXT_INPUTS, TextOrPair
from edgeq.formats.tokenizer import encoding, open_tokenizer

# What transformers removes spaces from, in this order.
_SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def prompted(
    settings: TextSettings | None,
    texts: Sequence[str],
    prompt: str | None,
    prompt_name: str | None,
) -> Sequence[str]:
    """`TextSettings.prompted`; values that are not text are left for the encoder to refuse."""
    if not all(isinstance(text, str) for text in texts):
        return texts
    return (settings or TextSettings(max_tokens=1)).prompted(texts, prompt, prompt_name)


class TextEncoder:
    """A tokenizer with truncation at `max_tokens` and without padding.

    tokenizer: the content of `tokenizer.json`; its own length and padding are overridden.
    """

    def __init__(self, tokenizer: bytes, max_tokens: int) -> None:
        self._tokenizer = open_tokenizer(tokenizer)
        self.limit(max_tokens)
        self._tokenizer.no_padding()

    def limit(self, max_tokens: int) -> None:
        """Cut longer texts from now on."""
        side = (self._tokenizer.truncation or {}).get("direction", "right")
        self._tokenizer.enable_truncation(max_length=max_tokens, direction=side)

    def ids(self, text: TextOrPair, where: str) -> list[int]:
        """Token ids, including special tokens. `where` names the text in errors (InvalidInput)."""
        ids: list[int] = self.encoded(text, where).ids
        return ids

    def text(self, ids: Sequence[int], *, tidy: bool) -> str:
        """The text of token ids without special tokens, and without spaces around it.

        tidy: see `DecodingSettings`.
        """
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        for spaced in _SPACED if tidy else ():
            text = text.replace(spaced, spaced.replace(" ", ""))
        return text.strip()

    def is_inside_word(self, text: str, encoded: Encoding, index: int) -> bool:
        """Whether a token continues a word of `text`, as transformers decides it."""
        model, (start, end) = self._tokenizer.model, encoded.offsets[index]
        if encoded.tokens[index] == getattr(model, "unk_token", None):
            return False
        if getattr(model, "continuing_subword_prefix", None):
            return bool(len(encoded.tokens[index]) != end - start)
        return bool(start > 0) and " " not in text[start - 1 : start + 1]

    def feeds(
        self, text: TextOrPair, names: Sequence[str], where: str = "text"
    ) -> dict[str, npt.NDArray[np.int64]]:
        """The model inputs called `names` for one text or pair: int64 arrays of shape (1, tokens).

        Of a pair that is too long, the longer text is cut.
        """
        found = self.encoded(text, where)
        ids = np.array([found.ids], np.int64)
        types = np.array([found.type_ids], np.int64)
        types = types if isinstance(text, tuple) else np.zeros_like(ids)
        known = dict(zip(TEXT_INPUTS, (ids, np.ones_like(ids), types), strict=True))
        return {name: known[name] for name in names}

    def encoded(self, text: TextOrPair, where: str = "text") -> Encoding:
        """Tokens with their places in the text. Raises InvalidInput for a text without any."""
        found = encoding(self._tokenizer, text, where)
        if not found.ids:
            raise InvalidInput(Problem(where, "has no token", "leave empty texts out"))
        return found
