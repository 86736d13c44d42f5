"""Training of one block's codes and scales against the float block's outputs.

Codes and scales move by Adam with gradients straight through rounding, so that the block, run on
the inputs that the already rounded blocks before it produce, comes near to what the float model has
there (blocks as units of reconstruction: Li et al., "BRECQ", 2021, arXiv:2102.05426; rounding
learned from a few hundred steps: Cheng et al., "AutoRound", 2023, arXiv:2309.05516). Every eighth
sample is held out: the best of a few states on these is kept, the first of which is the start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edgeq.models.original.blocks import Block
from edgeq.pipeline.learn.stream import TOKENS_AT_ONCE, Stream, same_length
from edgeq.pipeline.learn.trainable import Trainable, trainable
from edgeq.quantize.number_formats import Floats, QuantizedTensor

METHOD = "learned"
_JUDGES = 8  # one in this many samples is held out
_ROUNDS = 3  # of all taught samples, within these limits
_STEPS = (150, 500)
_CODES_RATE, _SCALES_RATE = 3e-2, 1e-3
_CHECKS = 4  # evaluations on the held-out samples, in addition to the first
_WARM_UP = 0.05  # share of all steps


@dataclass(frozen=True)
class Outcome:
    """Codes of a block, and the share of its output that is lost on held-out samples.

    before: with the codes that training began with, which are kept unless it made them better.
    """

    tensors: dict[str, QuantizedTensor]
    before: float
    after: float

    def __str__(self) -> str:
        """For whoever waits."""
        if self.after < self.before:
            return f"the output's error goes from {self.before:.3g} to {self.after:.3g}"
        return "training made nothing better on held-out samples"


def parted(count: int) -> tuple[list[int], list[int]]:
    """Samples that teach, and those that are held out; all, if they are few."""
    held_out = [index for index in range(count) if index % _JUDGES == _JUDGES - 1]
    return [i for i in range(count) if i % _JUDGES != _JUDGES - 1], held_out or list(range(count))


def cost(errors: torch.Tensor, costs: torch.Tensor) -> torch.Tensor:
    """What errors `(…, hidden)` cost, summed over places."""
    return ((errors @ costs) * errors).mean(-1).sum()


class Training:
    """One block's training.

    fixed: values of weights that are rounded already. inputs: of the block in the rounded model.
    targets: its outputs in the float model. costs: of errors in them, `(hidden, hidden)`.
    """

    def __init__(
        self,
        block: Block,
        start: Mapping[str, QuantizedTensor],
        fixed: Mapping[str, torch.Tensor],
        inputs: Stream,
        targets: Stream,
        costs: Floats,
        seed: int,
    ) -> None:
        self._block, self._start, self._fixed = block, start, fixed
        self._inputs, self._targets = inputs, targets
        self._costs = torch.from_numpy(costs)
        self._weights: dict[str, Trainable] = {n: trainable(t) for n, t in start.items()}
        self._taught, self._judges = parted(len(inputs.lengths))
        tokens = sum(inputs.lengths[i] for i in self._taught)
        self._steps = int(np.clip(_ROUNDS * tokens // TOKENS_AT_ONCE, *_STEPS))
        self._tokens = min(TOKENS_AT_ONCE, -(-_ROUNDS * tokens // self._steps))
        self._random = np.random.default_rng(seed)
        self._power = self._mean_power()

    def run(self) -> Outcome:
        """Train, and keep the best state."""
        codes = [weight.codes for weight in self._weights.values()]
        scales = [each for weight in self._weights.values() for each in weight.scales]
        rates = {"codes": _CODES_RATE, "scales": _SCALES_RATE}
        optimizer = torch.optim.Adam(
            [{"params": codes, "name": "codes"}, {"params": scales, "name": "scales"}],
            betas=(0.9, 0.99),
            eps=1e-12,
        )
        best = before = self._held_out()
        kept = dict(self._start)
        order, every = self._order(), -(-self._steps // _CHECKS)
        for step in range(self._steps):
            for group in optimizer.param_groups:
                group["lr"] = rates[group["name"]] * _rate((step + 0.5) / self._steps)
            optimizer.zero_grad()
            self._learn(next(order))
            optimizer.step()
            for weight in self._weights.values():
                weight.confine()
            if (step + 1) % every == 0 or step + 1 == self._steps:
                found = self._held_out()
                if found < best:
                    best = found
                    kept = {name: w.tensor(METHOD) for name, w in self._weights.items()}
        return Outcome(kept, before, best)

    def _learn(self, samples: Sequence[int]) -> None:
        """Add up the gradients of some samples; values are computed once for all of them."""
        values = {name: weight.value() for name, weight in self._weights.items()}
        leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
        for batch in same_length(samples, self._inputs.lengths):
            self._lost(batch, leaves).backward()
        torch.autograd.backward(list(values.values()), [leaf.grad for leaf in leaves.values()])

    def _held_out(self) -> float:
        with torch.no_grad():
            values = {name: weight.value() for name, weight in self._weights.items()}
            batches = same_length(self._judges, self._inputs.lengths)
            lost = sum(float(self._lost(batch, values)) for batch in batches)
        return lost / sum(self._inputs.lengths[i] for i in self._judges) / self._power

    def _lost(self, samples: Sequence[int], values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the errors of the outputs cost, summed over tokens."""
        found = self._block.run(self._inputs.batch(samples), {**self._fixed, **values})
        return cost(found - self._targets.batch(samples), self._costs)

    def _mean_power(self) -> float:
        """What it would cost if all outputs were their mean."""
        rows = torch.cat([self._targets.batch([i])[0] for i in self._judges])
        rows -= rows.mean(0)
        return float(cost(rows, self._costs)) / len(rows) or 1.0

    def _order(self) -> Iterator[list[int]]:
        """Samples of each step: every one once, in a shuffled order, before any repeats."""
        chosen: list[int] = []
        while True:
            for index in self._random.permutation(self._taught).tolist():
                chosen.append(index)
                if sum(self._inputs.lengths[i] for i in chosen) >= self._tokens:
                    yield chosen
                    chosen = []


def _rate(share: float) -> float:
    """The learning rate at a share of the run: linear warm-up, then cosine decay."""
    return min(1.0, share / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * share))
