"""The model in torch: frozen weights, low-rank factors, and logits a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edgeq.core.tasks import TEXT_GENERATION
from edgeq.models.architectures import Decoder
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.network import open_network
from edgeq.models.weights import open_weights
from edgeq.quantize.adapter import Factors
from edgeq.quantize.number_formats import Floats

_ROWS_AT_ONCE = 256  # rows of logits at a time: a vocabulary is large
_BESIDE, _ITERATIONS = 8, 4  # subspace iteration: extra directions, and rounds


class LowRank(torch.nn.Module):  # type: ignore[misc]
    """A linear layer plus its low-rank factors. In evaluation they are as a file holds them.

    Training begins with the best approximation of the weight's rounding error (LoftQ, Li et al.
    2023). Measured on a 5.8 M-parameter llama in Q2_K, rank 8, 120 steps: a KL divergence of 0.0281
    becomes 0.0237 this way, and 0.0259 from factors that are zero at first. An approximation
    weighted by the inputs' moments began worse, at 0.0280 compared with 0.0265: rounding that takes
    those moments into account has left nothing there.
    """

    def __init__(self, linear: torch.nn.Linear, full: Floats, rank: int) -> None:
        """full: the weight before it was rounded."""
        super().__init__()
        self.linear = linear
        lost = torch.from_numpy(full) - linear.weight
        up, down = approximated(lost, rank)
        self.down, self.up = torch.nn.Parameter(down), torch.nn.Parameter(up)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down, up = self.down, self.up
        if not torch.is_grad_enabled():
            down, up = down.half().float(), up.half().float()
        product: torch.Tensor = self.linear(x)
        return product + functional.linear(functional.linear(x, down), up)

    def factors(self) -> Factors:
        """The factors as they are written."""
        halves = (p.detach().half().numpy().copy() for p in (self.down, self.up))
        return Factors(*halves)


class Network:
    """A language model that can be run up to its last norm, with the output layer separate.

    adapted: the layers with factors, by their weight's Hugging Face name.
    """

    def __init__(self, directory: ModelDirectory, decoder: Decoder) -> None:
        self.model = open_network(directory, TEXT_GENERATION)
        self.model.requires_grad_(False)
        self.adapted: dict[str, LowRank] = {}
        self._cap = decoder.logit_softcap
        name = "model.embed_tokens.weight" if decoder.tied else "lm_head.weight"
        self._weights = open_weights(directory)
        self._float_head = torch.from_numpy(self._weights.read(name))

    def hidden(self, window: list[int]) -> torch.Tensor:
        """The input of the output layer, float32 (tokens, hidden)."""
        ids = torch.tensor([window])
        found: torch.Tensor = self.model.model(input_ids=ids, use_cache=False).last_hidden_state[0]
        return found

    def freeze(self, values: Iterable[tuple[str, Floats]]) -> None:
        """Replace the model's weights by those that a file holds."""
        own = dict(self.model.named_parameters(remove_duplicate=False))
        for name, rows in values:
            own[name].copy_(torch.from_numpy(np.ascontiguousarray(rows)))

    def adapt(self, names: Iterable[str], rank: int) -> None:
        """Add factors to the weights `names`."""
        for name in names:
            path, _, last = name.removesuffix(".weight").rpartition(".")
            parent = self.model.get_submodule(path)
            self.adapted[name] = LowRank(getattr(parent, last), self._weights.read(name), rank)
            setattr(parent, last, self.adapted[name])

    def divergence(self, hidden: torch.Tensor, taught: NDArray[np.float32]) -> torch.Tensor:
        """KL divergence in nats at every position, float32 (tokens,); without gradients."""
        with torch.no_grad():
            return torch.cat([self._of_rows(*rows) for rows in _split(hidden, taught)])

    def learn(self, hidden: torch.Tensor, taught: NDArray[np.float32], share: float) -> None:
        """Add the gradient of the mean divergence × `share` to every factor.

        Logits are computed and discarded a few rows at a time; their gradients are collected at
        `hidden`, and pass through the layers once.
        """
        leaf = hidden.detach().requires_grad_()
        for rows in _split(leaf, taught):
            (self._of_rows(*rows).sum() * (share / len(leaf))).backward()
        hidden.backward(leaf.grad)

    def _of_rows(self, hidden: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = self._scores(taught, self._float_head).log_softmax(-1)
        found = self._scores(hidden, self.model.lm_head.weight).log_softmax(-1)
        return (wanted.exp() * (wanted - found)).sum(-1)

    def _scores(self, hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        scores = functional.linear(hidden, head)
        return scores if self._cap is None else torch.tanh(scores / self._cap) * self._cap


def _split(
    hidden: torch.Tensor, taught: NDArray[np.float32]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    wanted = torch.from_numpy(taught)
    return list(zip(hidden.split(_ROWS_AT_ONCE), wanted.split(_ROWS_AT_ONCE), strict=True))


def approximated(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors `(rows, rank)` and `(rank, columns)` of balanced norm, whose product is the nearest.

    By subspace iteration (Halko et al. 2011, algorithm 4.4) from a fixed start.
    """
    generator = torch.Generator().manual_seed(0)
    wide = matrix.double()
    start = torch.randn((wide.shape[1], rank + _BESIDE), generator=generator, dtype=torch.double)
    basis = torch.linalg.qr(wide @ start).Q
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(wide @ torch.linalg.qr(wide.T @ basis).Q).Q
    left, sizes, right = torch.linalg.svd(basis.T @ wide, full_matrices=False)
    # A weight with fewer rows than the rank has fewer directions: the rest stays zero.
    roots = torch.zeros(rank, dtype=torch.double)
    found = min(rank, len(sizes))
    roots[:found] = sizes[:found].sqrt()
    up = torch.zeros((len(wide), rank), dtype=torch.double)
    down = torch.zeros((rank, wide.shape[1]), dtype=torch.double)
    up[:, :found], down[:found] = (basis @ left)[:, :found], right[:found]
    return (up * roots).float(), (down * roots[:, None]).float()


def factors_of(adapted: Mapping[str, LowRank]) -> dict[str, Factors]:
    """The adapter as it is written, by weight."""
    return {name: layer.factors() for name, layer in adapted.items()}
