"""Block after block: train its codes, and run both models through it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from edgeq.core.remaining import Remaining
from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.models.original.blocks import Block, Blocks
from edgeq.pipeline.learn.stream import Stream
from edgeq.pipeline.learn.train import Outcome, Training, cost, parted
from edgeq.quantize.codes import load_codes, save_codes
from edgeq.quantize.number_formats import Floats, QuantizedTensor
from edgeq.quantize.statistics import Feed


class Walk:
    """The progress of the float model, of the one whose blocks are learned, and of the one that
    training starts from; and the codes so far.
    """

    def __init__(
        self,
        blocks: Blocks,
        start: Mapping[str, QuantizedTensor],
        trained: frozenset[str],
        folder: Path,
        costs: Sequence[Floats],
        seed: int,
    ) -> None:
        self._blocks, self._trained, self._seed = blocks, trained, seed
        self._costs = costs
        self._start, self._codes = dict(start), dict(start)
        places = (folder / name for name in ("float", "rounded", "started"))
        self._float, self._rounded, self._started = map(Stream, places)

    def begin(self, feeds: Sequence[Feed]) -> None:
        """Run all models up to the first block."""
        self._float.fill(self._blocks.embed(feeds, lambda name: None))
        for stream in (self._rounded, self._started):
            stream.fill(self._blocks.embed(feeds, self._value))

    def run(self, steps: Steps, progress: Progress) -> dict[str, QuantizedTensor]:
        """All codes; finished blocks are found in `steps` after an interruption.

        Those of the start if the learned ones are no better where all blocks have been run.
        """
        count = len(self._blocks)
        left = Remaining([1] * count)
        for index, names in enumerate(self._blocks.names):
            what = f"learn block {index + 1} of {count} on {len(self._float.lengths)} samples"
            progress(what + left.begin(index))
            with self._blocks.opened(index) as block:
                self._float.advance(block, {})
                file = f"{index}.npz"
                if stored := steps.find(file):
                    self._codes |= load_codes(stored)
                elif self._trained & set(names):
                    outcome = self._train(index, block)
                    self._codes |= outcome.tensors
                    progress(f"block {index + 1}: {outcome}")
                    with steps.writing(file) as partial:
                        save_codes(partial, outcome.tensors)
                    left.end(index)
                self._rounded.advance(block, self._values(names, self._codes))
                self._started.advance(block, self._values(names, self._start))
        before, after = self._lost(self._started), self._lost(self._rounded)
        if after >= before:
            progress("all blocks: no better than before training, whose codes are kept")
            return self._start
        progress(f"all blocks: errors cost {after / before:.3g} times what they did")
        return self._codes

    def _lost(self, stream: Stream) -> float:
        """What the errors of the last block's output cost on held-out samples."""
        costs = torch.from_numpy(self._costs[-1])
        _, judges = parted(len(stream.lengths))
        errors = (stream.batch([i]) - self._float.batch([i]) for i in judges)
        return sum(float(cost(each, costs)) for each in errors)

    def _train(self, index: int, block: Block) -> Outcome:
        names = self._blocks.names[index]
        start = {name: self._codes[name] for name in names if name in self._trained}
        others = [name for name in names if name not in self._trained]
        fixed = self._values(others, self._codes)
        return Training(
            block,
            start,
            fixed,
            self._rounded,
            self._float,
            self._costs[index],
            self._seed + index,
        ).run()

    @staticmethod
    def _values(
        names: Iterable[str], codes: Mapping[str, QuantizedTensor]
    ) -> dict[str, torch.Tensor]:
        """The weights of a block that are rounded."""
        return {name: torch.from_numpy(codes[name].dequantize()) for name in names if name in codes}

    def _value(self, name: str) -> Floats | None:
        found = self._codes.get(name)
        return None if found is None else found.dequantize()
