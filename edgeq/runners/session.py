"""One call from a path and inputs to answers: what `edgeq run` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgeq
from edgeq.calibration import data
from edgeq.errors import InvalidInput, Problem
from edgeq.files import writable


@dataclass(frozen=True)
class Answer:
    """Embeddings float32 `(texts, dimension)` and the seconds that computing them took."""

    artifact: str
    texts: tuple[str, ...]
    embeddings: npt.NDArray[np.float32]
    seconds: float

    def similarity(self) -> npt.NDArray[np.float32]:
        """Cosine of every pair, float32 `(texts, texts)`."""
        norms = np.linalg.norm(self.embeddings, axis=1, keepdims=True)
        unit = self.embeddings / np.maximum(norms, np.finfo(np.float32).tiny)
        return np.asarray(unit @ unit.T, np.float32)

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "artifact": self.artifact,
            "texts": list(self.texts),
            "embeddings": self.embeddings.tolist(),
            "similarity": self.similarity().tolist(),
            "seconds": self.seconds,
        }


def run_texts(path: Path, texts: Sequence[str]) -> Answer:
    """Embed `texts` with the model at `path`. Raises InvalidInput where there are none."""
    if not texts:
        what = "no sentence to embed"
        raise InvalidInput(Problem("edgeq run", what, f'type: edgeq run {path} "a sentence"'))
    model = edgeq.load(path)
    start = time.perf_counter()
    embeddings = model.embed(list(texts))
    return Answer(model.artifact.name, tuple(texts), embeddings, time.perf_counter() - start)


def refuse_unused(texts: Sequence[str], inputs: Path | None, out: Path | None) -> None:
    """Raise InvalidInput where one of the arguments would have no effect."""
    if texts and inputs is not None:
        what = f"goes without sentences, {texts[0]!r} would not be read"
        raise InvalidInput(Problem("--inputs", what, "give sentences or --inputs"))
    if out is not None and inputs is None:
        what = "is written for --inputs only"
        raise InvalidInput(Problem("--out", what, "use --json to get embeddings"))


def run_arrays(path: Path, inputs: Path, out: Path | None) -> dict[str, npt.NDArray[Any]]:
    """Run every sample of `inputs` and stack each output along the first axis.

    With `out`, the outputs are written there as an .npz.
    """
    if out is not None:
        writable(out, "--out")
    model = edgeq.load(path)
    arrays = data.read_arrays(inputs)
    ranks = {value.name: len(value.shape) for value in model.artifact.inputs}
    answers = [model.run(feed) for feed in data.feeds(inputs, arrays, ranks)]
    try:
        outputs = {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}
    except ValueError:
        what = "the samples' outputs differ in shape, so one array cannot hold them"
        raise InvalidInput(Problem(str(inputs), what, "give samples of one size")) from None
    if out is not None:
        partial = out.with_name(f".{out.name}.partial.npz")
        arrays_by_name: dict[str, Any] = outputs
        np.savez(partial, **arrays_by_name)
        partial.replace(out)
    return outputs
