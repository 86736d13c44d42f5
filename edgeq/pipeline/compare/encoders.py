"""Compare the embeddings of two sentence encoders, and the neighbours that change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import Progress
from edgeq.measure import clusters
from edgeq.measure.neighbours import Neighbours, neighbours
from edgeq.measure.quality import cosine
from edgeq.pipeline.compare.compare import Opened, Side
from edgeq.recipe import data_sets


class EncoderComparison(Frozen):
    """Cosines between the embeddings that two encoders give the same texts."""

    a: Side = Field(description="The reference.")
    b: Side = Field(description="The candidate.")
    text: str = Field(description="Path of the texts.")
    texts: int = Field(description="Number of different texts embedded.")
    cosine_mean: float
    cosine_mean_se: float = Field(description="Standard error of the mean cosine.")
    cosine_min: float = Field(description="Cosine of the text that changed most.")
    furthest: str = Field(description="The text that changed most.")
    neighbours: Neighbours | None = Field(
        description="Texts whose nearest neighbour changed; None with fewer than three texts."
    )


def texts_of(path: Path, samples: int | None = None) -> list[str]:
    """The different texts of a file, one per line, or both columns of pairs; from `samples` lines.

    Raises InvalidInput for a file that is neither.
    """
    if path.suffix in data_sets.PAIR_SUFFIXES:
        pairs = data_sets.read_pairs(path, samples)
        return list(dict.fromkeys([*pairs.first, *pairs.second]))
    return list(dict.fromkeys(data_sets.read_texts(path, samples)))


def compare_encoders(
    a: Opened, b: Opened, text: Path, progress: Progress = lambda step: None
) -> EncoderComparison:
    """Embed the texts of a file with both models; A is the reference.

    Raises InvalidInput for models that embed no text, or whose embeddings differ in length.
    """
    texts = texts_of(text)
    if len(texts) < 2:
        raise InvalidInput(Problem(str(text), "has fewer than two texts", "give one per line"))
    found = []
    for each in (a, b):
        progress(f"compare: embed {len(texts)} texts with {each.path}")
        found.append(each.model.embed(texts).astype(np.float64))
    if found[0].shape != found[1].shape:
        what = f"gives {found[1].shape[1]} values per text, and {a.path} {found[0].shape[1]}"
        raise InvalidInput(Problem(str(b.path), what, "compare encoders of one model"))
    cosines = np.array([cosine(x, y) for x, y in zip(*found, strict=True)])
    mean = clusters.mean([np.array([value]) for value in cosines])
    return EncoderComparison(
        a=a.side,
        b=b.side,
        text=str(text),
        texts=len(texts),
        cosine_mean=mean.value,
        cosine_mean_se=mean.error,
        cosine_min=float(cosines.min()),
        furthest=texts[int(cosines.argmin())],
        neighbours=neighbours(texts, *found),
    )
