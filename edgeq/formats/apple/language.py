"""Language models with a stateful KV cache, in either of Apple's file formats."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable

import numpy as np

from edgeq.formats.base import Floats
from edgeq.formats.language import Ids
from edgeq.formats.written_decoder import WrittenDecoder


class StatefulDecoder(WrittenDecoder):
    """A decoder whose states are float16 and have the context length of its file."""

    cache_type = "f16"
    _used = 0  # positions of the cache

    def cache_bytes(self, context: int) -> int:
        """Bytes of all states: a file has its whole context."""
        return sum(2 * math.prod(shape) for shape in self._state_shapes())

    @abstractmethod
    def _state_shapes(self) -> Iterable[tuple[int, ...]]:
        """The shape of every state."""

    @abstractmethod
    def _next_count(self, left: int) -> int:
        """Tokens of the next call, of `left`; more if it is padded."""

    @abstractmethod
    def _call(self, piece: Ids, count: int, rows: Ids) -> Floats:
        """Logits of the tokens of `piece` at `rows`, in a call of `count` tokens."""

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        logits = np.empty((len(token_ids) if every else 1, self.vocabulary), np.float32)
        done = 0
        while done < len(token_ids):
            count = self._next_count(len(token_ids) - done)
            piece = token_ids[done : done + count]
            rows = np.arange(0 if every else len(piece) - 1, len(piece))
            start = done if every else 0
            logits[start : start + len(rows)] = self._call(piece, count, rows)
            done += len(piece)
            self._used += len(piece)
        return logits
