"""Language models as Core ML packages: one call takes one of a few numbers of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edgeq.formats.apple.decoder import IDS, LOGITS, POSITION, ROWS
from edgeq.formats.apple.language import StatefulDecoder
from edgeq.formats.base import Floats
from edgeq.formats.coreml.backend import Backend
from edgeq.formats.coreml.lengths import filled, lengths_of
from edgeq.formats.language import Ids
from edgeq.formats.package import Package


class CoremlDecoder(StatefulDecoder):
    """A decoder with states in a package made by `edgeq.formats.coreml.write`."""

    def __init__(self, package: Package, backend: Backend, context: int | None) -> None:
        """See `StatefulDecoder`."""
        facts = backend.interface.metadata
        super().__init__(package, facts, backend.runtime, backend.threads, context)
        self.is_reference = backend.is_reference
        self._backend = backend
        self._counts = lengths_of(backend.interface.inputs[IDS])
        self._state: Any = None

    def facts(self) -> dict[str, Any]:
        """See `Model.facts`."""
        return self._backend.facts()

    def _state_shapes(self) -> Iterable[tuple[int, ...]]:
        for value in self._backend.interface.states.values():
            yield tuple(n for n in value.shape if n is not None)

    def _clear(self) -> None:
        self._state = self._backend.make_state()
        self._used = 0

    def _next_count(self, left: int) -> int:
        """The smallest size that takes all the rest, else the largest.

        A padded call writes places after its tokens, which the next one overwrites; these must
        exist too, so at the end of the cache shorter calls are used.
        """
        fitting = [count for count in self._counts if self._used + count <= self.longest]
        return next((count for count in fitting if count >= left), fitting[-1])

    def _call(self, piece: Ids, count: int, rows: Ids) -> Floats:
        feeds = {
            IDS: filled(piece[None], count),
            POSITION: np.array([self._used], np.int32),
            ROWS: filled(rows, count if len(rows) > 1 else 1),
        }
        answer = self._backend.predict(feeds, self._state)
        return np.asarray(answer[LOGITS], np.float32)[0, : len(rows)]
