"""Hidden states of every sample, in files, as blocks are run one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from edgeq.models.original.blocks import Block
from edgeq.quantize.number_formats import Floats

TOKENS_AT_ONCE = 1024


class Stream:
    """A hidden state of every sample, in files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.lengths: list[int] = []

    def fill(self, states: Iterator[Floats]) -> None:
        """Take the first block's input of each sample."""
        for index, state in enumerate(states):
            self._write(index, state)
            self.lengths.append(len(state))

    def batch(self, samples: Sequence[int]) -> torch.Tensor:
        """States of samples of one length, float32 `(samples, tokens, hidden)`."""
        return torch.from_numpy(np.stack([np.load(self._place(index)) for index in samples]))

    def advance(self, block: Block, values: Mapping[str, torch.Tensor]) -> None:
        """Run a block on every sample; its outputs take the place of its inputs."""
        self._run(block, values, self)

    def after(self, block: Block, folder: Path) -> Stream:
        """The outputs of a block with its own weights."""
        found = Stream(folder)
        found.lengths = self.lengths
        self._run(block, {}, found)
        return found

    def _run(self, block: Block, values: Mapping[str, torch.Tensor], into: Stream) -> None:
        with torch.no_grad():
            for samples in same_length(range(len(self.lengths)), self.lengths):
                found = block.run(self.batch(samples), values).numpy()
                for index, state in zip(samples, found, strict=True):
                    into._write(index, state)

    def _write(self, index: int, state: Floats) -> None:
        np.save(self._place(index), state)

    def _place(self, index: int) -> Path:
        return self._folder / f"{index}.npy"


def same_length(samples: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Samples of one length together, no more tokens than are run at once."""
    by_length: dict[int, list[int]] = {}
    for index in samples:
        by_length.setdefault(lengths[index], []).append(index)
    for length, found in by_length.items():
        count = max(1, TOKENS_AT_ONCE // length)
        yield from (found[at : at + count] for at in range(0, len(found), count))
