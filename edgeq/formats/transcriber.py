"""A speech recogniser of two parts: an encoder, and a decoder with a cache."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeq.core.artifact import TOKENIZER_FILE, Artifact, ValueInfo
from edgeq.formats.audio import AnyAudio, prepared_audio
from edgeq.formats.base import Array, Model
from edgeq.formats.parts import Parts
from edgeq.formats.samples import place, require_list
from edgeq.formats.text import TextEncoder

ENCODER, DECODER = "encoder", "decoder"
TOKENS = ValueInfo(name="tokens", dtype="int64", shape=("tokens",))
"""The output of `Transcriber.run`."""


class Transcriber(Parts):
    """Runs the encoder once for a recording, and the decoder once for each token.

    The encoder's outputs `present.N.encoder.…` are the decoder's inputs
    `past_key_values.N.encoder.…`, and its own `present.N.decoder.…` the next step's, as optimum
    exports them.
    """

    kind = "a speech recogniser"

    def __init__(self, artifact: Artifact, parts: Mapping[str, Model], folder: Path) -> None:
        super().__init__(artifact, parts)
        assert artifact.decoding is not None
        self.verbs = "transcribe() or run()"
        self._decoding, self._folder = artifact.decoding, folder

    @functools.cached_property
    def _tokenizer(self) -> TextEncoder:
        """Opened with the first text: it takes as much memory as some models."""
        content = (self._folder / TOKENIZER_FILE).read_bytes()
        return TextEncoder(content, self._decoding.length)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The tokens of the text, without prompt and end."""
        decoding, decoder = self._decoding, self.parts[DECODER]
        known = {inner(name): a for name, a in self.parts[ENCODER].run(feeds).items()}
        assert decoder.artifact is not None
        state = {
            value.name: np.zeros(_empty(value), value.dtype)
            for value in decoder.artifact.inputs
            if value.name not in known and value.name != "input_ids"
        }
        tokens: list[int] = []
        given: Sequence[int] = decoding.prompt
        while len(decoding.prompt) + len(tokens) < decoding.length:
            ids = np.array([given], np.int64)
            answers = decoder.run({"input_ids": ids, **known, **state})
            state |= {inner(name): a for name, a in answers.items() if inner(name) in state}
            scores = answers["logits"][0, -1].astype(np.float32)
            scores[list(decoding.suppress)] = -np.inf
            if not tokens:
                scores[list(decoding.suppress_first)] = -np.inf
            given = [int(scores.argmax())]
            if given[0] == decoding.end:
                break
            tokens += given
        return {TOKENS.name: np.array(tokens, np.int64)}

    def transcribe(self, recordings: Sequence[AnyAudio]) -> list[str]:
        """See `Model.transcribe`. Recordings are run one at a time, as texts by `embed`."""
        require_list(recordings, "recordings")
        (value,), audio, texts = self.artifact.inputs, self.artifact.audio, []
        assert audio is not None
        for index, given in enumerate(recordings):
            feed = prepared_audio(given, audio, value, place(given, f"recordings[{index}]"))
            tokens = self.run({value.name: feed})[TOKENS.name]
            texts.append(self._tokenizer.text(tokens.tolist(), tidy=self._decoding.tidy))
        return texts


def inner(name: str) -> str:
    """The input of the decoder that takes an output of this name."""
    return name.replace("present.", "past_key_values.")


def _empty(value: ValueInfo) -> list[int]:
    """The shape of a cache without positions: (1, heads, 0, width)."""
    return [
        size if isinstance(size, int) else int(axis == 0) for axis, size in enumerate(value.shape)
    ]
