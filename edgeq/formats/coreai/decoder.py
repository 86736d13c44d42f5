"""Language models for Core AI, with a stateful KV cache."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.artifact import TOKENIZER_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.formats.apple.decoder import IDS, LOGITS, POSITION
from edgeq.formats.base import Floats
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.language import Ids, LanguageModel
from edgeq.formats.package import Package
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.architectures import DEFAULT_CONTEXT

_PIECE = 256
"""Most tokens of one call: its scores take as many times the context in memory."""


class CoreaiDecoder(LanguageModel):
    """A decoder with states. Its cache is float16 and has the file's context length."""

    cache_type = "f16"

    def __init__(self, package: Package, path: Path, context: int | None) -> None:
        """Raises InvalidInput if the file has no such context, or was not written by edgeq."""
        artifact, facts = package.artifact, _metadata(path)
        if CONTEXT_KEY not in facts or TOKENIZER_FILE not in artifact.files:
            what = "is not a language model with a cache written by edgeq"
            raise InvalidInput(Problem(str(package.path), what, "build it again"))
        longest = int(facts[CONTEXT_KEY])
        if context is not None and context > longest:
            what = f"{context} positions are requested, and the file was made for {longest}"
            remedy = "request fewer, or build it with workload: {context: …}"
            raise InvalidInput(Problem(artifact.name, what, remedy))
        self._model = Runtime(path)
        scores = next(value for value in artifact.outputs if value.name == LOGITS)
        super().__init__(
            name=artifact.name,
            artifact=artifact,
            runtime=self._model.name,
            threads=1,
            vocabulary=int(scores.shape[-1]),
            context=context or min(DEFAULT_CONTEXT, longest),
            longest=longest,
            end_tokens=frozenset(map(int, facts.get(END_KEY, "").split())),
        )
        self.is_reference = not self._model.is_apples
        self._tokenizer = DecoderTokenizer(package.read(TOKENIZER_FILE))
        chat = package.read_chat()
        self.chat_template, self.special_tokens = chat.template, chat.special_tokens
        self._state: dict[str, Any] = {}
        self._used = 0

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """See `LanguageModel.tokens`."""
        return self._tokenizer.ids(text, special)

    def cache_bytes(self, context: int) -> int:
        """Bytes of all states: a file has its whole context."""
        return sum(2 * math.prod(shape) for shape in self._model.states().values())

    def _piece(self, token_id: int) -> bytes:
        return self._tokenizer.piece(token_id)

    def _clear(self) -> None:
        self._state = {
            name: np.zeros(shape, np.float16) for name, shape in self._model.states().items()
        }
        self._used = 0

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        logits = np.empty((len(token_ids) if every else 1, self.vocabulary), np.float32)
        for done in range(0, len(token_ids), _PIECE):
            piece = token_ids[done : done + _PIECE]
            feeds = {IDS: piece[None].astype(np.int32), POSITION: np.array([self._used], np.int32)}
            found = self._model.run(feeds, self._state)[LOGITS][0]
            if every:
                logits[done : done + len(piece)] = found
            else:
                logits[0] = found[-1]
            self._used += len(piece)
        return logits


def _metadata(path: Path) -> dict[str, str]:
    try:
        found = json.loads((path / "metadata.json").read_bytes()).get("creatorDefinedMetadata", {})
    except (OSError, ValueError) as error:
        what = f"its metadata.json cannot be read: {error}"
        raise InvalidInput(Problem(str(path), what, "build it again")) from error
    return {str(key): str(value) for key, value in found.items()}
