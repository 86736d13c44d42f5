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
from edgeq.pipeline.learn.train import Outcome, Training
from edgeq.quantize.codes import load_codes, save_codes
from edgeq.quantize.number_formats import Floats, QuantizedTensor
from edgeq.quantize.statistics import Feed


class Walk:
    """The progress of the float and the rounded model, and the codes so far."""

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
        self._codes = dict(start)
        self._float, self._rounded = Stream(folder / "float"), Stream(folder / "rounded")

    def begin(self, feeds: Sequence[Feed]) -> None:
        """Run both models up to the first block."""
        self._float.fill(self._blocks.embed(feeds, lambda name: None))
        self._rounded.fill(self._blocks.embed(feeds, self._value))

    def run(self, steps: Steps, progress: Progress) -> dict[str, QuantizedTensor]:
        """All codes; finished blocks are found in `steps` after an interruption."""
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
                self._rounded.advance(block, self._values(names))
        return self._codes

    def _train(self, index: int, block: Block) -> Outcome:
        names = self._blocks.names[index]
        start = {name: self._codes[name] for name in names if name in self._trained}
        fixed = self._values(name for name in names if name not in self._trained)
        return Training(
            block,
            start,
            fixed,
            self._rounded,
            self._float,
            self._costs[index],
            self._seed + index,
        ).run()

    def _values(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The weights of a block that are rounded."""
        return {
            name: torch.from_numpy(self._codes[name].dequantize())
            for name in names
            if name in self._codes
        }

    def _value(self, name: str) -> Floats | None:
        found = self._codes.get(name)
        return None if found is None else found.dequantize()
