"""Training of an adapter: distillation of the full model's logits by KL, resumable.

The weights are frozen at the values that the runtime computes with, and the adapter learns (QLoRA,
Dettmers et al. 2023) to restore the distribution of every next token (Hinton et al. 2015, at
temperature 1). Every eighth window of the calibration text is held out; the adapter that does best
there is kept, or none if no adapter is an improvement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.models.architectures import Decoder
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.reproducible import reproducible
from edgeq.pipeline.recover.network import Network, factors_of
from edgeq.pipeline.recover.record import Recovery, versions
from edgeq.quantize.adapter import Factors
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.recover_spec import RecoverSpec

_JUDGES = 8  # one in this many windows is held out
_TOKENS_A_STEP = 1024
_CHECKS = 12  # number of evaluations on the held-out windows
_WARM_UP = 0.05  # fraction of all steps
_CHECKPOINT = "checkpoint.pt"


@dataclass
class _State:
    """The state of training. seen: the held-out divergence by step."""

    step: int
    seen: dict[int, float]
    best: dict[str, torch.Tensor]
    current: dict[str, torch.Tensor]
    optimizer: dict[str, Any]


def train(
    directory: ModelDirectory,
    decoder: Decoder,
    values: Iterable[tuple[str, Floats]],
    names: Sequence[str],
    windows: Sequence[list[int]],
    spec: RecoverSpec,
    steps: Steps,
    progress: Progress,
    threads: int,
) -> tuple[dict[str, Factors], Recovery]:
    """Train an adapter for the weights `names`, by name; empty if none is an improvement.

    values: weights that differ from the model's, as the runtime has them. windows: token ids of
    calibration text, eight or more. steps: of this very run; a run that was interrupted is resumed
    from them, and gives the same bytes as an uninterrupted one with as many threads.
    """
    with reproducible(threads):
        network = Network(directory, decoder)
        lessons = _Lessons(network, windows, steps, progress)
        network.freeze(values)
        before = lessons.held_back(network)
        progress(f"recover: KL {before:.6f} on held-out text without an adapter")
        network.adapt(names, spec.rank)
        return _Training(network, lessons, spec, steps, progress).run(before)


class _Lessons:
    """Windows of text and the full model's hidden states for each, in files, read as needed."""

    def __init__(
        self, network: Network, windows: Sequence[list[int]], steps: Steps, progress: Progress
    ) -> None:
        self._windows = windows
        indices = range(len(windows))
        self.judges = [i for i in indices if i % _JUDGES == _JUDGES - 1]
        self.teachers = [i for i in indices if i % _JUDGES != _JUDGES - 1]
        missing = [i for i in indices if steps.find(_taught(i)) is None]
        for count, index in enumerate(missing):
            progress(f"recover: run the full model, window {count + 1} of {len(missing)}")
            with torch.no_grad():
                known = network.hidden(windows[index]).numpy()
            with steps.writing(_taught(index)) as partial:
                np.save(partial, known)
        self._files = {i: path for i in indices if (path := steps.find(_taught(i)))}

    def window(self, index: int) -> list[int]:
        """Token ids."""
        return self._windows[index]

    def taught(self, index: int) -> NDArray[np.float32]:
        """The input of the full model's output layer, float32 (tokens, hidden)."""
        found: NDArray[np.float32] = np.load(self._files[index])
        return found

    def held_back(self, network: Network) -> float:
        """Mean divergence in nats over the held-out windows."""
        found = []
        for index in self.judges:
            with torch.no_grad():
                hidden = network.hidden(self.window(index))
            found.append(network.divergence(hidden, self.taught(index)))
        return float(torch.cat(found).double().mean())

    def batch(self, step: int, count: int, seed: int) -> list[int]:
        """Windows of a step: each once, in a shuffled order, before any repeats."""
        places = range(step * count, (step + 1) * count)
        return [
            self._ordered(place // len(self.teachers), seed)[place % len(self.teachers)]
            for place in places
        ]

    def _ordered(self, round: int, seed: int) -> list[int]:
        order = np.random.default_rng([seed, round]).permutation(len(self.teachers))
        return [self.teachers[i] for i in order]


class _Training:
    """Steps, evaluations and checkpoints."""

    def __init__(
        self,
        network: Network,
        lessons: _Lessons,
        spec: RecoverSpec,
        steps: Steps,
        progress: Progress,
    ) -> None:
        self._network, self._lessons, self._spec = network, lessons, spec
        self._steps, self._progress = steps, progress
        size = len(lessons.window(0))
        self._count = min(max(1, _TOKENS_A_STEP // size), len(lessons.teachers))
        self._every = max(1, spec.steps // _CHECKS)
        self._tokens = self._count * size
        self._parameters = {
            f"{name}.{part}": getattr(layer, part)
            for name, layer in network.adapted.items()
            for part in ("down", "up")
        }
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), spec.learning_rate, weight_decay=0.0
        )

    def run(self, before: float) -> tuple[dict[str, Factors], Recovery]:
        """Train to the end, from the last checkpoint. before: the divergence without an adapter."""
        state = self._resumed() or self._begun()
        while state.step < self._spec.steps:
            self._step(state.step)
            state.step += 1
            if state.step % self._every == 0 or state.step == self._spec.steps:
                self._check(state)
        best = min(state.seen, key=lambda step: (state.seen[step], step))
        self._set(state.best)
        record = Recovery(
            **self._spec.model_dump(),
            tokens=self._tokens,
            held_back_tokens=sum(len(self._lessons.window(i)) for i in self._lessons.judges),
            kl_before=before,
            kl_after=state.seen[best],
            best_step=best,
            is_kept=state.seen[best] < before,
            trained_with=versions(),
        )
        return factors_of(self._network.adapted) if record.is_kept else {}, record

    def _begun(self) -> _State:
        start = self._lessons.held_back(self._network)
        self._progress(f"recover: KL {start:.6f} before the first step")
        return _State(0, {0: start}, self._copy(), {}, {})

    def _step(self, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._spec.learning_rate * _rate((step + 0.5) / self._spec.steps)
        self._optimizer.zero_grad()
        for index in self._lessons.batch(step, self._count, self._spec.seed):
            hidden = self._network.hidden(self._lessons.window(index))
            self._network.learn(hidden, self._lessons.taught(index), 1 / self._count)
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
        self._optimizer.step()

    def _check(self, state: _State) -> None:
        """Evaluate on the held-out text, and write a checkpoint."""
        seen = self._lessons.held_back(self._network)
        if seen < min(state.seen.values()):
            state.best = self._copy()
        state.seen[state.step] = seen
        self._progress(
            f"recover: step {state.step} of {self._spec.steps}, KL {seen:.6f} on held-out text"
        )
        state.current, state.optimizer = self._copy(), self._optimizer.state_dict()
        with self._steps.writing(_CHECKPOINT) as partial:
            torch.save(vars(state), partial)

    def _resumed(self) -> _State | None:
        checkpoint = self._steps.find(_CHECKPOINT)
        if checkpoint is None:
            return None
        state = _State(**torch.load(checkpoint, weights_only=True))
        self._set(state.current)
        self._optimizer.load_state_dict(state.optimizer)
        self._progress(f"recover: resume after step {state.step} of {self._spec.steps}")
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
