"""Distillation: train some of a network's parameters on the full model's answers, resumable.

For predictions, parameters learn to restore the distribution of every next token (Hinton et al.
2015, at temperature 1). Every eighth sample of the calibration data is held out, and the state that
does best there is kept.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeq.core.remaining import Remaining
from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.pipeline.distil.network import Network
from edgeq.quantize.statistics import Feed

TOKENS_A_STEP = 1024
_JUDGES = 8  # one in this many samples is held out
_CHECKS = 12  # number of evaluations on the held-out samples
_WARM_UP = 0.05  # fraction of all steps
_CHECKPOINT = "checkpoint.pt"
Rated = tuple[torch.nn.Parameter, float]
"""A parameter and the peak of its learning rate."""


@dataclass
class State:
    """The state of training. seen: the held-out distance by step."""

    step: int
    seen: dict[int, float]
    best: dict[str, torch.Tensor]
    current: dict[str, torch.Tensor]
    optimizer: dict[str, Any]

    @property
    def best_step(self) -> int:
        """The step of the best state; 0 is the initial one."""
        return min(self.seen, key=lambda step: (self.seen[step], step))


class Lessons:
    """Samples and the full model's states for each, in files, read as needed.

    what: in front of what is said of the progress.
    """

    def __init__(
        self,
        network: Network,
        samples: Sequence[Feed],
        steps: Steps,
        progress: Progress,
        what: str,
    ) -> None:
        self._samples = samples
        indices = range(len(samples))
        self.judges = [i for i in indices if i % _JUDGES == _JUDGES - 1]
        self.teachers = [i for i in indices if i % _JUDGES != _JUDGES - 1]
        missing = [i for i in indices if steps.find(_taught(i)) is None]
        for count, index in enumerate(missing):
            progress(f"{what}: run the full model, sample {count + 1} of {len(missing)}")
            with torch.no_grad():
                known = network.states(samples[index]).numpy()
            with steps.writing(_taught(index)) as partial:
                np.save(partial, known)
        self._files = {i: path for i in indices if (path := steps.find(_taught(i)))}

    def sample(self, index: int) -> Feed:
        """The inputs."""
        return self._samples[index]

    def taught(self, index: int) -> NDArray[np.float32]:
        """The full model's states."""
        found: NDArray[np.float32] = np.load(self._files[index])
        return found

    def tokens(self, indices: Sequence[int]) -> int:
        """Tokens of some samples together."""
        return sum(next(iter(self._samples[i].values())).shape[1] for i in indices)

    def held_back(self, network: Network) -> float:
        """The mean distance over the held-out samples."""
        found = []
        for index in self.judges:
            with torch.no_grad():
                states = network.states(self.sample(index))
            found.append(network.divergence(states, self.taught(index)))
        return float(torch.cat(found).double().mean())

    def batch(self, step: int, count: int, seed: int) -> list[int]:
        """Samples of a step: each once, in a shuffled order, before any repeats."""
        places = range(step * count, (step + 1) * count)
        return [
            self._ordered(place // len(self.teachers), seed)[place % len(self.teachers)]
            for place in places
        ]

    def _ordered(self, round: int, seed: int) -> list[int]:
        order = np.random.default_rng([seed, round]).permutation(len(self.teachers))
        return [self.teachers[i] for i in order]


class Distillation:
    """Steps, evaluations and checkpoints.

    parameters: to train, by name. what: in front of what is said of the progress. step: entered
    while the gradients of a step are added up. betas, eps: AdamW's.
    """

    def __init__(
        self,
        network: Network,
        lessons: Lessons,
        parameters: Mapping[str, Rated],
        count: int,
        seed: int,
        steps: Steps,
        progress: Progress,
        what: str,
        step: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self._network, self._lessons, self._count, self._seed = network, lessons, count, seed
        self._steps, self._progress, self._what = steps, progress, what
        self._gathering = step
        self._every = max(1, count // _CHECKS)
        mean = lessons.tokens(lessons.teachers) / len(lessons.teachers)
        self._samples = min(max(1, int(TOKENS_A_STEP // mean)), len(lessons.teachers))
        self.tokens = round(self._samples * mean)
        self._parameters = {name: parameter for name, (parameter, _) in parameters.items()}
        self._peaks = [rate for _, rate in parameters.values()]
        self._optimizer = torch.optim.AdamW(
            [{"params": [each]} for each in self._parameters.values()],
            betas=betas,
            eps=eps,
            weight_decay=0.0,
        )

    def run(self) -> State:
        """Train to the end, from the last checkpoint, and set the parameters to the best state."""
        state = self._resumed() or self._begun()
        left = Remaining([1] * self._count)
        while state.step < self._count:
            said = left.begin(state.step)
            self._step(state.step)
            left.end(state.step)
            state.step += 1
            if state.step % self._every == 0 or state.step == self._count:
                self._check(state, said)
        self._set(state.best)
        return state

    def _begun(self) -> State:
        start = self._lessons.held_back(self._network)
        self._progress(f"{self._what}: {self._network.distance} {start:.6f} before the first step")
        return State(0, {0: start}, self._copy(), {}, {})

    def _step(self, step: int) -> None:
        rate = _rate((step + 0.5) / self._count)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        self._optimizer.zero_grad()
        with self._gathering():
            for index in self._lessons.batch(step, self._samples, self._seed):
                states = self._network.states(self._lessons.sample(index))
                self._network.learn(states, self._lessons.taught(index), 1 / self._samples)
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
        self._optimizer.step()

    def _check(self, state: State, left: str) -> None:
        """Evaluate on the held-out samples, and write a checkpoint."""
        seen = self._lessons.held_back(self._network)
        if seen < min(state.seen.values()):
            state.best = self._copy()
        state.seen[state.step] = seen
        self._progress(
            f"{self._what}: step {state.step} of {self._count}, {self._network.distance} "
            f"{seen:.6f} on held-out samples{left}"
        )
        state.current, state.optimizer = self._copy(), self._optimizer.state_dict()
        with self._steps.writing(_CHECKPOINT) as partial:
            torch.save(vars(state), partial)
        state.current, state.optimizer = {}, {}

    def _resumed(self) -> State | None:
        checkpoint = self._steps.find(_CHECKPOINT)
        if checkpoint is None:
            return None
        state = State(**torch.load(checkpoint, weights_only=True))
        self._set(state.current)
        self._optimizer.load_state_dict(state.optimizer)
        state.current, state.optimizer = {}, {}
        self._progress(f"{self._what}: resume after step {state.step} of {self._count}")
        return state

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self._parameters.items()}

    def _set(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._parameters.items():
                value.copy_(values[name])


def _taught(index: int) -> str:
    return f"taught-{index}.npy"


def _rate(share: float) -> float:
    """The learning rate at a fraction of the run: linear warm-up, then cosine decay."""
    if share < _WARM_UP:
        return share / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (share - _WARM_UP) / (1 - _WARM_UP)))
