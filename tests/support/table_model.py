"""A language model small enough to know all of: for tests of what is done with one."""

from __future__ import annotations

import numpy as np

from edgeq.formats.base import Floats
from edgeq.formats.language import Ids, LanguageModel

VOCABULARY = 24


class Table(LanguageModel):
    """A model whose next scores depend on every token so far: a decaying sum of a table's rows."""

    def __init__(
        self,
        pieces: list[bytes] | None = None,
        ends: frozenset[int] = frozenset(),
        context: int = 64,
        seed: int = 0,
        longest: int | None = None,
    ) -> None:
        super().__init__(
            name="table",
            artifact=None,
            runtime="numpy",
            threads=1,
            vocabulary=VOCABULARY,
            context=context,
            end_tokens=ends,
            longest=longest,
        )
        self._table = np.random.default_rng(seed).standard_normal((VOCABULARY, VOCABULARY))
        self._pieces = pieces or [bytes([97 + token]) for token in range(VOCABULARY)]
        self.runs = 0
        self._clear()

    def tokens(self, text: str, special: bool = True) -> list[int]:
        return [ord(letter) - 97 for letter in text]

    def _piece(self, token_id: int) -> bytes:
        return self._pieces[token_id]

    def cache_bytes(self, context: int) -> int:
        return 8 * VOCABULARY

    def _clear(self) -> None:
        self._sum = np.zeros(VOCABULARY)

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        self.runs += 1
        rows = []
        for token in token_ids:
            self._sum = 0.5 * self._sum + self._table[token]
            rows.append(self._sum)
        return np.array(rows if every else rows[-1:], np.float32)
