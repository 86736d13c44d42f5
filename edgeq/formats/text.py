"""Text to token ids, the same in calibration, measurement and an app."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from edgeq.core.artifact import TextSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import TextOrPair
from edgeq.formats.tokenizer import encoding, open_tokenizer


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
        side = (self._tokenizer.truncation or {}).get("direction", "right")
        self._tokenizer.enable_truncation(max_length=max_tokens, direction=side)
        self._tokenizer.no_padding()

    def ids(self, text: TextOrPair, where: str) -> list[int]:
        """Token ids, including special tokens. `where` names the text in errors (InvalidInput)."""
        ids: list[int] = self._encoded(text, where).ids
        return ids

    def feeds(
        self, text: TextOrPair, names: Sequence[str], where: str = "text"
    ) -> dict[str, npt.NDArray[np.int64]]:
        """The model inputs called `names` for one text or pair: int64 arrays of shape (1, tokens).

        Of a pair that is too long, the longer text is cut.
        """
        found = self._encoded(text, where)
        ids = np.array([found.ids], np.int64)
        types = np.array([found.type_ids], np.int64)
        known = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": types if isinstance(text, tuple) else np.zeros_like(ids),
        }
        return {name: known[name] for name in names}

    def _encoded(self, text: TextOrPair, where: str) -> Encoding:
        found = encoding(self._tokenizer, text, where)
        if not found.ids:
            raise InvalidInput(Problem(where, "has no token", "leave empty texts out"))
        return found
