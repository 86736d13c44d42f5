"""What every loaded model can be asked, whatever its file format; what it cannot do, it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import Artifact
from edgeq.core.errors import InvalidInput, Problem

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Model:
    """A model ready to run. `edgeq.load` returns one of its kinds.

    Each kind overrides the verbs it has; the others raise InvalidInput, naming those it has.
    artifact: its record; None for a bare `.gguf`. name: of the artifact, else of the file.
    threads: how many one run uses. runtime: name and version of what executes it.
    system: what the runtime says of the instruction sets it was built for; "" where it chooses
    its kernels by the CPU. prepared: whether weights are mapped from a copy packed for this CPU.
    is_reference: whether something slow and exact executes it in place of the device's runtime.
    """

    kind = "model"
    verbs = ""
    artifact: Artifact | None
    name: str
    threads: int
    runtime: str
    system: str = ""
    prepared: bool = False
    is_reference: bool = False

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays by input name to arrays by output name."""
        raise self._unfit("run")

    def tokenize(self, text: str) -> dict[str, Array]:
        """The inputs of `run` for one text: integers of shape (1, tokens)."""
        raise self._unfit("tokenize")

    def embed(
        self, texts: Sequence[str], *, prompt: str | None = None, prompt_name: str | None = None
    ) -> Floats:
        """Embed each text; float32 of shape (len(texts), dimension).

        prompt: put in front of each text; "" for none. prompt_name: instead, one of the model's
        own, which `artifact.text.prompts` lists. Without either, the model's default prompt.
        """
        raise self._unfit("embed")

    def tokens(self, text: str) -> list[int]:
        """Token ids of `text`, special tokens included."""
        raise self._unfit("tokens")

    def logits(self, token_ids: Sequence[int] | Array) -> Floats:
        """Scores of the next token behind every position; float32 (len(token_ids), vocabulary)."""
        raise self._unfit("logits")

    def generate(
        self, prompt: str, max_tokens: int = 128, *, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[str]:
        """Continue `prompt`, piece by piece."""
        raise self._unfit("generate")

    def facts(self) -> dict[str, Any]:
        """What only some runtimes tell of an open model, in plain JSON.

        Core ML: `compiled_load_seconds` and `placement`, as `edgeq.measure.records` has them.
        """
        return {}

    def _unfit(self, verb: str) -> InvalidInput:
        return InvalidInput(Problem(self.name, f"is {self.kind}: no {verb}()", f"use {self.verbs}"))
