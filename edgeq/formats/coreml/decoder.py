"""Language models as Core ML packages with a stateful KV cache.

For packages made by `edgeq.formats.coreml.write`: one call takes one of a few numbers of tokens.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeq.core.artifact import TOKENIZER_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.formats.base import Floats
from edgeq.formats.coreml.backend import Backend
from edgeq.formats.coreml.lengths import filled, lengths_of
from edgeq.formats.language import Ids, LanguageModel
from edgeq.formats.package import Package
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.architectures import DEFAULT_CONTEXT

_IDS, _POSITION, _LOGITS = "input_ids", "position", "logits"


class CoremlDecoder(LanguageModel):
    """A decoder with states. Its cache is float16 and has the package's context length."""

    cache_type = "f16"

    def __init__(self, package: Package, backend: Backend, context: int | None) -> None:
        """Raises InvalidInput if the package has no such context, or was not written by edgeq."""
        facts, artifact = backend.interface.metadata, package.artifact
        if CONTEXT_KEY not in facts or TOKENIZER_FILE not in artifact.files:
            what = "is not a language model with a cache written by edgeq"
            raise InvalidInput(Problem(str(package.path), what, "build it again"))
        longest = int(facts[CONTEXT_KEY])
        if context is not None and context > longest:
            what = f"{context} positions are requested, and the package was made for {longest}"
            remedy = "request fewer, or build it with workload: {context: …}"
            raise InvalidInput(Problem(artifact.name, what, remedy))
        scores = next(value for value in artifact.outputs if value.name == _LOGITS)
        super().__init__(
            name=artifact.name,
            artifact=artifact,
            runtime=backend.runtime,
            threads=backend.threads,
            vocabulary=int(scores.shape[-1]),
            context=context or min(DEFAULT_CONTEXT, longest),
            longest=longest,
            end_tokens=frozenset(map(int, facts.get(END_KEY, "").split())),
        )
        self.is_reference = backend.is_reference
        self._backend = backend
        self._capacity = longest
        self._counts = lengths_of(backend.interface.inputs[_IDS])
        self._tokenizer = DecoderTokenizer(package.read(TOKENIZER_FILE))
        chat = package.read_chat()
        self.chat_template, self.special_tokens = chat.template, chat.special_tokens
        self._state: Any = None
        self._used = 0

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """See `LanguageModel.tokens`."""
        return self._tokenizer.ids(text, special)

    def facts(self) -> dict[str, Any]:
        """See `Model.facts`."""
        return self._backend.facts()

    def cache_bytes(self, context: int) -> int:
        """Bytes of all states: a package allocates its whole context."""
        shapes = [value.shape for value in self._backend.interface.states.values()]
        return sum(2 * math.prod(n for n in shape if n is not None) for shape in shapes)

    def _piece(self, token_id: int) -> bytes:
        return self._tokenizer.piece(token_id)

    def _clear(self) -> None:
        self._state = self._backend.make_state()
        self._used = 0

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        logits = np.empty((len(token_ids) if every else 1, self.vocabulary), np.float32)
        done = 0
        while done < len(token_ids):
            count = self._next_count(len(token_ids) - done)
            piece = token_ids[done : done + count]
            answer = self._backend.predict(
                {
                    _IDS: filled(piece[None], count),
                    _POSITION: np.array([self._used], np.int32),
                },
                self._state,
            )
            found = np.asarray(answer[_LOGITS], np.float32)[0, : len(piece)]
            if every:
                logits[done : done + len(piece)] = found
            else:
                logits[0] = found[-1]
            done += len(piece)
            self._used += len(piece)
        return logits

    def _next_count(self, left: int) -> int:
        """Tokens of the next call: the smallest size that holds all the rest, else the largest.

        A padded call writes places after its tokens, which the next one overwrites; these must
        exist too, so at the end of the cache shorter calls are used.
        """
        fitting = [count for count in self._counts if self._used + count <= self._capacity]
        return next((count for count in fitting if count >= left), fitting[-1])
