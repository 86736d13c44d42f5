"""Language models with a stateful KV cache, in either of Apple's file formats."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping

import numpy as np

from edgeq.core.artifact import TOKENIZER_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.formats.apple.decoder import LOGITS
from edgeq.formats.base import Floats
from edgeq.formats.language import Ids, LanguageModel
from edgeq.formats.package import Package
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.architectures import DEFAULT_CONTEXT


class StatefulDecoder(LanguageModel):
    """A decoder whose states are float16 and have the context length of its file."""

    cache_type = "f16"

    def __init__(
        self,
        package: Package,
        facts: Mapping[str, str],
        runtime: str,
        threads: int,
        context: int | None,
    ) -> None:
        """facts: what edgeq stored in the file.

        Raises InvalidInput if the file has no such context, or was not written by edgeq.
        """
        artifact = package.artifact
        if CONTEXT_KEY not in facts or TOKENIZER_FILE not in artifact.files:
            what = "is not a language model with a cache written by edgeq"
            raise InvalidInput(Problem(str(package.path), what, "build it again"))
        longest = int(facts[CONTEXT_KEY])
        if context is not None and context > longest:
            what = f"{context} positions are requested, and the file was made for {longest}"
            remedy = "request fewer, or build it with workload: {context: …}"
            raise InvalidInput(Problem(artifact.name, what, remedy))
        scores = next(value for value in artifact.outputs if value.name == LOGITS)
        super().__init__(
            name=artifact.name,
            artifact=artifact,
            runtime=runtime,
            threads=threads,
            vocabulary=int(scores.shape[-1]),
            context=context or min(DEFAULT_CONTEXT, longest),
            longest=longest,
            end_tokens=frozenset(map(int, facts.get(END_KEY, "").split())),
        )
        self._tokenizer = DecoderTokenizer(package.read(TOKENIZER_FILE))
        chat = package.read_chat()
        self.chat_template, self.special_tokens = chat.template, chat.special_tokens
        self._used = 0

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """See `LanguageModel.tokens`."""
        return self._tokenizer.ids(text, special)

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
    def _call(self, piece: Ids, count: int) -> Floats:
        """Logits of every token of `piece`, in a call of `count` tokens."""

    def _piece(self, token_id: int) -> bytes:
        return self._tokenizer.piece(token_id)

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        logits = np.empty((len(token_ids) if every else 1, self.vocabulary), np.float32)
        done = 0
        while done < len(token_ids):
            count = self._next_count(len(token_ids) - done)
            piece = token_ids[done : done + count]
            found = self._call(piece, count)
            if every:
                logits[done : done + len(piece)] = found
            else:
                logits[0] = found[-1]
            done += len(piece)
            self._used += len(piece)
        return logits
