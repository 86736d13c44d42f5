"""Calibration data that rounding does not use, and the distance of a model from float on them.

Rounding sets every eighth sample aside to judge by; losses are measured on those. Evaluation texts
or arrays are not used here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.sampling import spread
from edgeq.formats.base import Model
from edgeq.formats.language import LanguageModel
from edgeq.measure.clusters import Estimate, mean
from edgeq.measure.quality import cosine
from edgeq.measure.scoring import score
from edgeq.models.architectures import Decoder
from edgeq.models.graphs.decoder_onnx import decoder_feeds
from edgeq.pipeline.allocate.chain import Chain
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.statistics import Feed
from edgeq.recipe.windows import DEFAULT_WINDOW

_EVERY = 8
_IDS = "input_ids"
_TOKENS = 512  # samples of a long text: a sentence has a fraction of the tokens
Doubles = NDArray[np.float64]


def learnt_from(feeds: Sequence[Feed], count: int) -> list[Feed]:
    """At most `count` of the samples that rounding uses, or more short texts; spread evenly."""
    own = [feed for index, feed in enumerate(feeds) if index % _EVERY != _EVERY - 1]
    return spread(own, as_many(own, count))


def set_aside(feeds: Sequence[Feed]) -> list[Feed]:
    """The samples to judge by. Raises InvalidInput for fewer than two."""
    aside = [feed for index, feed in enumerate(feeds) if index % _EVERY == _EVERY - 1]
    if len(aside) < 2:
        what = f"{len(feeds)} samples; every eighth is held out to judge by"
        raise InvalidInput(Problem("data.calibration", what, f"give {2 * _EVERY} or more"))
    return aside


def as_many(feeds: Sequence[Feed], count: int) -> int:
    """`count`, or as many texts as have the tokens of `count` long ones."""
    lengths = [np.asarray(feed[_IDS]).size for feed in feeds if _IDS in feed]
    return max(count, count * _TOKENS * len(lengths) // sum(lengths)) if lengths else count


class Holdout:
    """Held-out samples, and the float model's outputs for them.

    feeds: inputs of the float graph, at most `count`, or more short texts. decoder: None for other
    tasks. Language models are judged on the second halves of windows of 256 tokens, as in a check,
    or of `context`: how many a file has room for.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        count: int,
        decoder: Decoder | None,
        context: int = DEFAULT_WINDOW,
    ) -> None:
        aside = set_aside(feeds)
        self.windows: list[list[int]] = []
        if decoder is None:
            self.feeds = spread(aside, as_many(aside, count))
            return
        self.windows = spread(_windows(aside, min(context, DEFAULT_WINDOW)), count)
        half = np.array([len(self.windows[0]) // 2], np.int64)
        self.feeds = [
            {**feed, "logits_to_keep": half} for feed in decoder_feeds(decoder, self.windows)
        ]

    def keep(self, chain: Chain, folder: Path) -> None:
        """Compute the float model's outputs and keep them in `folder`, since they may be large."""
        self._folder = folder
        for index, outputs in enumerate(chain.run()):
            for name, array in outputs.items():
                np.save(folder / f"{index}.{name}.npy", self._answer(name, array))
        self._names = chain.outputs

    def of_graph(self, chain: Chain, changed: Mapping[str, Floats]) -> Estimate:
        """The loss of the float graph with some weights changed."""
        return mean([self._loss(i, outputs) for i, outputs in enumerate(chain.run(changed))])

    def of_model(self, model: Model) -> Estimate:
        """The loss of an artifact, executed by its own runtime."""
        return mean(list(self._losses(model)))

    def _losses(self, model: Model) -> Iterable[Doubles]:
        if isinstance(model, LanguageModel):
            for index, window in enumerate(self.windows):
                yield self._loss(index, {"logits": model.logits(window)})
            return
        assert model.artifact is not None
        names = [value.name for value in model.artifact.inputs]
        for index, feed in enumerate(self.feeds):
            yield self._loss(index, model.run({name: np.asarray(feed[name]) for name in names}))

    def _loss(self, index: int, outputs: Mapping[str, NDArray[Any]]) -> Doubles:
        """The KL divergence of every scored token in nats, else 1 − cosine of every output."""
        found = []
        for name in self._names:
            wanted = np.load(self._folder / f"{index}.{name}.npy", mmap_mode="r")
            given = self._answer(name, outputs[name])
            if self.windows:
                window = self.windows[index]
                found.append(score(np.asarray(wanted), given, window[len(window) // 2 + 1 :]).kl)
            else:
                a, b = (np.asarray(x, np.float64).ravel() for x in (given, wanted))
                found.append(np.array([1 - cosine(a, b)]))
        return np.concatenate(found)

    def _answer(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """The compared values: for logits, the rows of a window's second half with a next token."""
        if not self.windows:
            return array
        rows = array.reshape(-1, array.shape[-1])
        half = len(self.windows[0]) - len(self.windows[0]) // 2
        return rows[-half:][:-1]


def _windows(feeds: Sequence[Feed], most: int) -> list[list[int]]:
    """Windows of at most so many tokens from longer ones, with the same first token."""
    texts = [feed["input_ids"][0].tolist() for feed in feeds]
    size = min(most, *map(len, texts))
    first = {text[0] for text in texts}
    cut = [
        text[at : at + size] for at in range(0, len(texts[0]) - size + 1, size) for text in texts
    ]
    if len(first) == 1 and len(texts) > 2:  # the token that precedes every text
        cut = [[*first, *window[1:]] for window in cut]
    return cut
