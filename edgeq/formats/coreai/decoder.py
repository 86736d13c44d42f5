"""Language models for Core AI: one call takes any number of tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.apple.decoder import IDS, LOGITS, POSITION, ROWS
from edgeq.formats.apple.language import StatefulDecoder
from edgeq.formats.base import Floats
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.language import Ids
from edgeq.formats.package import Package

PIECE = 256
"""Most tokens of one call: its scores take as many times the context in memory."""


class CoreaiDecoder(StatefulDecoder):
    """A decoder with states in a file made by `edgeq.formats.coreai.write`.

    A run takes a second whatever the number of tokens: codes become numbers each time.
    """

    noise_piece = 32

    def __init__(self, package: Package, path: Path, context: int | None) -> None:
        """See `StatefulDecoder`."""
        self._model = Runtime(path)
        super().__init__(package, read_metadata(path), self._model.name, 1, context)
        self.is_reference = not self._model.is_apples
        self._state: dict[str, Any] = {}

    def _state_shapes(self) -> Iterable[tuple[int, ...]]:
        return self._model.states().values()

    def _clear(self) -> None:
        self._state = {
            name: np.zeros(shape, np.float16) for name, shape in self._model.states().items()
        }
        self._used = 0

    def _next_count(self, left: int) -> int:
        return min(left, PIECE)

    def _call(self, piece: Ids, count: int, rows: Ids) -> Floats:
        feeds = {
            IDS: piece[None].astype(np.int32),
            POSITION: np.array([self._used], np.int32),
            ROWS: rows.astype(np.int32),
        }
        logits: Floats = self._model.run(feeds, self._state)[LOGITS][0]
        return logits


def read_metadata(path: Path) -> dict[str, str]:
    """What edgeq stored in a file. Raises InvalidInput if that cannot be read."""
    try:
        found = json.loads((path / "metadata.json").read_bytes()).get("creatorDefinedMetadata", {})
    except (OSError, ValueError) as error:
        what = f"its metadata.json cannot be read: {error}"
        raise InvalidInput(Problem(str(path), what, "build it again")) from error
    return {str(key): str(value) for key, value in found.items()}
