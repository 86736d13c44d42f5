"""GGUF files from strangers as models of recipes: planned, and built until the result is run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

from edgeq.core.store import Store

_RECIPE = """\
edgeq: 1
name: stranger
model: {{source: ./{name}, task: text-generation}}
quantize: {{default: {{weights: Q4_0, method: nearest}}}}
workload: {{context: 64, prompt: 8, generate: 4}}
targets: [{{format: gguf, devices: [here]}}]
"""
_LAST_STEP = "open what was built"


class _Enough(Exception):
    """What is left would only run edgeq's own file."""


def read_content(folder: Path) -> bytes:
    """A model of a family that edgeq reads, with a tokenizer of SentencePiece."""
    from tests.support import tiny_decoders
    from tests.support.gguf_artifacts import write_file

    model = tiny_decoders.make(folder / "model", "llama", num_hidden_layers=1)
    return write_file(model, folder / "made.gguf", "Q8_0").read_bytes()


def unread_content(folder: Path) -> bytes:
    """A mixture of experts, which llama.cpp alone reads, with a tokenizer of bytes and merges."""
    from tests.support.foreign_gguf import make_mixture

    return make_mixture(folder, num_hidden_layers=1).read_bytes()


def plan_and_build(path: Path) -> None:
    """Plan a recipe with the file, and build it as far as the file itself matters."""
    from edgeq.pipeline.build.build import build
    from edgeq.pipeline.plan.plan import make_plan

    recipe = path.with_name("recipe.yaml")
    recipe.write_text(_RECIPE.format(name=path.name), encoding="utf-8")

    def progress(step: str) -> None:
        if step.startswith(_LAST_STEP):
            raise _Enough

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, EDGEQ_CACHE=f"{folder}/cache"),
    ):
        try:
            build(make_plan(recipe), Store(Path(folder, "store")), progress)
        except _Enough:
            return
