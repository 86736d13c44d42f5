"""A model in torch whose layers can be replaced, and the distance of its answers from others.

A sample is what the model takes at once, inputs of shape (1, tokens). Its states are float32
`(rows, width)`, from which the answers follow: those of the full model are computed once and kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import TEXT_GENERATION, Task
from edgeq.models.architectures import Decoder
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.network import open_network
from edgeq.models.sentence_head import Pooling
from edgeq.models.weights import open_weights
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.statistics import Feed

_ROWS_AT_ONCE = 256  # rows of logits at a time: a vocabulary is large


class Network(ABC):
    """A model with float32 weights that are frozen.

    distance: what `divergence` is, for readers.
    """

    distance: str

    def __init__(self, directory: ModelDirectory, task: Task) -> None:
        self._directory = directory
        self.model = open_network(directory, task)
        self.model.requires_grad_(False)
        self.weights = open_weights(directory)

    @abstractmethod
    def states(self, sample: Feed) -> torch.Tensor:
        """The states of a sample."""

    @abstractmethod
    def divergence(self, states: torch.Tensor, taught: NDArray[np.float32]) -> torch.Tensor:
        """The distances, float32 (answers,); without gradients. taught: the full model's states."""

    @abstractmethod
    def learn(self, states: torch.Tensor, taught: NDArray[np.float32], share: float) -> None:
        """Add the gradient of the mean distance × `share` to every parameter."""

    def freeze(self, values: Iterable[tuple[str, Floats]]) -> None:
        """Replace weights by those that a file holds."""
        own = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, rows in values:
                own[self._path(name)].copy_(torch.from_numpy(np.ascontiguousarray(rows)))

    def places(self, name: str) -> dict[str, torch.nn.Module]:
        """The layers that multiply by the weight `name` or look it up, by path.

        A table that is the output layer too has two. Empty for a weight of another use.
        """
        weight = self.model.get_parameter(self._path(name))
        kinds = torch.nn.Linear, torch.nn.Embedding
        return {
            path: module
            for path, module in self.model.named_modules()
            if isinstance(module, kinds) and module.weight is weight
        }

    def put(self, path: str, layer: torch.nn.Module) -> None:
        """Put another layer in the place at `path`."""
        parent, _, last = path.rpartition(".")
        setattr(self.model.get_submodule(parent), last, layer)

    def layer(self, name: str) -> torch.nn.Linear:
        """The layer that multiplies by the weight `name`."""
        found: torch.nn.Linear = self.model.get_submodule(self._layer_path(name))
        return found

    def replace(self, name: str, layer: torch.nn.Module) -> None:
        """Put another layer in the place of the one that multiplies by the weight `name`."""
        self.put(self._layer_path(name), layer)

    def _layer_path(self, name: str) -> str:
        return self._path(name).removesuffix(".weight")

    def _path(self, name: str) -> str:
        """The network's name of a parameter of the files: with or without a prefix.

        Raises InvalidInput if it has none.
        """
        prefix = f"{self.model.base_model_prefix}."
        renamed = {parts[0]: own for own, parts in self._directory.stacked.items() if not parts[1:]}
        name = renamed.get(name, name)
        for path in (name, f"{prefix}{name}", name.removeprefix(prefix)):
            try:
                self.model.get_parameter(path)
            except AttributeError:
                continue
            return path
        what = f"transformers' model of it has no weight {name}"
        remedy = "write 'method: gptq', without 'recover'"
        raise InvalidInput(Problem(str(self._directory.path), what, remedy))


class Predictions(Network):
    """A language model, whose states are the output layer's inputs.

    Logits are computed and discarded a few rows at a time.
    """

    distance = "KL"

    def __init__(self, directory: ModelDirectory, decoder: Decoder) -> None:
        super().__init__(directory, TEXT_GENERATION)
        self._cap = decoder.logit_softcap
        self._caches = bool(decoder.borrowed)  # transformers lends keys through a cache
        name = "model.embed_tokens.weight" if decoder.tied else "lm_head.weight"
        self._float_head = torch.from_numpy(self.weights.read(name))

    def states(self, sample: Feed) -> torch.Tensor:
        """See `Network.states`."""
        ids = torch.from_numpy(np.asarray(sample["input_ids"], np.int64))
        answer = self.model.model(input_ids=ids, use_cache=self._caches)
        found: torch.Tensor = answer.last_hidden_state[0]
        return found

    def divergence(self, states: torch.Tensor, taught: NDArray[np.float32]) -> torch.Tensor:
        """KL divergence in nats at every position."""
        with torch.no_grad():
            return torch.cat([self._of_rows(*rows) for rows in _split(states, taught)])

    def learn(self, states: torch.Tensor, taught: NDArray[np.float32], share: float) -> None:
        """See `Network.learn`. Gradients are collected at `states`, and go on from there once."""
        leaf = states.detach().requires_grad_()
        for rows in _split(leaf, taught):
            (self._of_rows(*rows).sum() * (share / len(leaf))).backward()
        states.backward(leaf.grad)

    def _of_rows(self, states: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = self._scores(taught, self._float_head).log_softmax(-1)
        found = self._scores(states, self.model.lm_head.weight).log_softmax(-1)
        return (wanted.exp() * (wanted - found)).sum(-1)

    def _scores(self, states: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        scores = functional.linear(states, head)
        return scores if self._cap is None else torch.tanh(scores / self._cap) * self._cap


class Answers(Network):
    """An encoder, whose states are its outputs: of every token, or scores.

    pooling: how tokens' states become one embedding; None for scores.
    """

    def __init__(self, directory: ModelDirectory, task: Task) -> None:
        super().__init__(directory, task)
        self._poolings = directory.head.poolings if task.has_sentence_head else None
        self.distance = "squared error" if self._poolings is None else "1 - cosine"

    def states(self, sample: Feed) -> torch.Tensor:
        """See `Network.states`."""
        given = {name: torch.from_numpy(np.asarray(value)) for name, value in sample.items()}
        outputs = self.model(**given)
        if self._poolings is None:
            return torch.atleast_2d(outputs.logits[0])
        found: torch.Tensor = outputs.last_hidden_state[0]
        if "attention_mask" in given:
            found = found[given["attention_mask"][0].bool()]
        return found

    def divergence(self, states: torch.Tensor, taught: NDArray[np.float32]) -> torch.Tensor:
        """See `Network.divergence`."""
        with torch.no_grad():
            return self._distance(states, taught)

    def learn(self, states: torch.Tensor, taught: NDArray[np.float32], share: float) -> None:
        """See `Network.learn`."""
        (self._distance(states, taught).mean() * share).backward()

    def _distance(self, states: torch.Tensor, taught: NDArray[np.float32]) -> torch.Tensor:
        wanted = torch.from_numpy(taught)
        if self._poolings is None:
            return (states - wanted).square().mean(-1)
        both = (
            torch.cat([_pooled(each, pooling) for pooling in self._poolings])
            for each in (states, wanted)
        )
        return 1 - functional.cosine_similarity(*both, dim=0)[None]


def _pooled(states: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector of all tokens'; the mean for poolings that are about that."""
    match pooling:
        case "cls":
            return states[0]
        case "lasttoken":
            return states[-1]
        case "max":
            return states.amax(0)
        case _:
            return states.mean(0)


def _split(
    states: torch.Tensor, taught: NDArray[np.float32]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    wanted = torch.from_numpy(taught)
    return list(zip(states.split(_ROWS_AT_ONCE), wanted.split(_ROWS_AT_ONCE), strict=True))
