"""Tokenize texts with llama.cpp and a vocabulary, in a separate process.

llama.cpp ends its process if it rejects a vocabulary, and keeps some hundred MB for one that it
accepts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.core import child
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.quantize.ggml.llama_api import chosen_build

_SECONDS = 300.0  # a busy machine reads the largest vocabularies in some ten


@dataclass(frozen=True)
class Reading:
    """whole, plain: ids of each text, with special tokens around it and without. ends: ids that
    end a text."""

    whole: list[list[int]]
    plain: list[list[int]]
    ends: list[int]


def read_texts(vocabulary: Path, texts: Sequence[str]) -> Reading:
    """The token ids of `texts` by the GGUF file `vocabulary`, which needs no tensors.

    Raises InvalidInput if llama.cpp cannot open it.
    """
    if child.is_child() or not child.can_start():
        return _read(vocabulary, texts)
    command = child.command("edgeq.formats.gguf.reading", str(vocabulary))
    try:
        done = subprocess.run(
            command,
            input=json.dumps([*texts]),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_SECONDS,
        )
        reply = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        what = f"{chosen_build()} does not survive the vocabulary of this model"
        remedy = "build this model for ONNX"
        raise InvalidInput(Problem(str(vocabulary), what, remedy)) from None
    if "problems" in reply:
        raise InvalidInput(Problem(**problem) for problem in reply["problems"])
    return Reading(**reply)


def _read(vocabulary: Path, texts: Sequence[str]) -> Reading:
    model = LlamaModel(vocabulary, vocabulary_only=True)
    return Reading(
        [model.tokens(text, True) for text in texts],
        [model.tokens(text, False) for text in texts],
        [id for id in range(model.vocabulary) if model.ends(id)],
    )


def main(vocabulary: str) -> None:
    """Read texts from standard input and write their ids to standard output, both as JSON."""
    # The C library may print; the reply keeps standard output to itself.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as reply:
        os.dup2(2, 1)
        try:
            json.dump(vars(_read(Path(vocabulary), json.load(sys.stdin))), reply)
        except InvalidInput as error:
            json.dump({"problems": [vars(problem) for problem in error.problems]}, reply)


if __name__ == "__main__":
    main(sys.argv[1])
