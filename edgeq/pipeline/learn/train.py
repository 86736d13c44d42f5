"""Training of codes and scales, all layers at once, against the full model's answers.

Codes and scales move by Adam with gradients straight through rounding, on whole samples and from
the model's own answers, not a layer's or a block's: an error that no answer shows is none.
(Rounding learned by gradients: Nagel et al., "AdaRound", 2020, arXiv:2004.10568; Cheng et al.,
"AutoRound", 2023, arXiv:2309.05516; both aim at the outputs of a layer or block.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.pipeline.distil.network import Network
from edgeq.pipeline.distil.training import TOKENS_A_STEP, Distillation, Lessons, Rated
from edgeq.pipeline.learn.trainable import Trainable, trainable
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.statistics import Feed

METHOD = "learned"
_ROUNDS = 3  # of all samples, within these limits
_STEPS = (150, 500)
_CODES_RATE, _SCALES_RATE = 1e-2, 1e-3
_WHAT = "learn"


class Shared:
    """A trained weight, computed once for all samples of a step and all layers that use it."""

    def __init__(self, form: Trainable) -> None:
        self.form = form
        self._value: torch.Tensor | None = None
        self._leaf: torch.Tensor | None = None

    @property
    def leaf(self) -> torch.Tensor:
        """Where samples add up gradients; in an evaluation, the value of the last step."""
        if self._leaf is None:
            self._leaf = self.form.value().detach()
        return self._leaf

    def begin(self) -> None:
        """Compute the weight for the samples of a step."""
        self.form.confine()
        self._value = self.form.value()
        self._leaf = self._value.detach().requires_grad_()

    def end(self) -> None:
        """Pass the gradient on that samples have added up; none of an expert nobody asked."""
        assert self._value is not None and self._leaf is not None
        if self._leaf.grad is not None:
            self._value.backward(self._leaf.grad)
        self._value = self._leaf = None


class Layer(torch.nn.Module):  # type: ignore[misc]
    """A layer that multiplies by a trained weight or looks it up."""

    def __init__(self, layer: torch.nn.Module, shared: Shared) -> None:
        super().__init__()
        self._layer, self._shared = layer, shared

    @property
    def weight(self) -> torch.Tensor:
        """What the layer computes with now."""
        return self._shared.leaf

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return functional_call(self._layer, {"weight": self.weight}, inputs, named)


def train(
    network: Network,
    start: Mapping[str, QuantizedTensor],
    names: Sequence[str],
    samples: Sequence[Feed],
    seed: int,
    steps: Steps,
    progress: Progress,
) -> dict[str, QuantizedTensor]:
    """`start` with the codes of the weights `names` trained; as it is if none are better.

    Judged on held-out samples. steps: of this run, which is resumed after an interruption.
    """
    lessons = Lessons(network, samples, steps, progress, _WHAT)
    network.freeze((name, tensor.dequantize()) for name, tensor in start.items())
    weights = {name: Shared(trainable(start[name])) for name in names}
    rounds = _ROUNDS * lessons.tokens(lessons.teachers) // TOKENS_A_STEP
    count = int(np.clip(rounds, *_STEPS))
    training = Distillation(
        network,
        lessons,
        _placed(weights, network),
        count,
        seed,
        steps,
        progress,
        _WHAT,
        lambda: _one_step(weights.values()),
        betas=(0.9, 0.99),
        eps=1e-12,
    )
    state = training.run()
    before, after = state.seen[0], state.seen[state.best_step]
    if state.best_step == 0:
        progress(f"{_WHAT}: nothing better on held-out samples; the codes stay as they were")
        return dict(start)
    progress(f"{_WHAT}: {network.distance} from {before:.6f} to {after:.6f} on held-out samples")
    return {
        name: weights[name].form.tensor(METHOD) if name in weights else tensor
        for name, tensor in start.items()
    }


def _placed(weights: Mapping[str, Shared], network: Network) -> dict[str, Rated]:
    """What to train of `weights`, by name, after each was put in all its places in the network."""
    parameters = {}
    for name, shared in weights.items():
        for path, layer in network.places(name).items():
            network.put(path, Layer(layer, shared))
        parameters[f"{name}.codes"] = (shared.form.codes, _CODES_RATE)
        for index, scales in enumerate(shared.form.scales):
            parameters[f"{name}.{index}"] = (scales, _SCALES_RATE)
    return parameters


@contextlib.contextmanager
def _one_step(weights: Collection[Shared]) -> Iterator[None]:
    for shared in weights:
        shared.begin()
    yield
    for shared in weights:
        shared.end()
