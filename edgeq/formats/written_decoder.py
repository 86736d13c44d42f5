"""Language models in files that edgeq wrote: context, end tokens and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.core.artifact import TOKENIZER_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.formats.language import LanguageModel
from edgeq.formats.package import Package
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.architectures import DEFAULT_CONTEXT


class WrittenDecoder(LanguageModel):
    """A decoder with the tokenizer of its artifact."""

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
        scores = next(value for value in artifact.outputs if value.name == "logits")
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

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """See `LanguageModel.tokens`."""
        return self._tokenizer.ids(text, special)

    def _piece(self, token_id: int) -> bytes:
        return self._tokenizer.piece(token_id)
