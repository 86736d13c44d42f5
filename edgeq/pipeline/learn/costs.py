"""What errors in each block's output cost at the model's answers.

To second order an error `e` of a block's output costs `eᵀ F e`, with `F` the mean of `g gᵀ` over
places, `g` the gradient of an answer there. For predictions an answer is the logarithm of the
probability of a value that is drawn by its probability, and `F` the Fisher information, so that the
cost is twice a KL divergence in nats; for embeddings it is a projection on a random direction. (A
weighting of blocks by the Fisher information's diagonal is in Li et al., "BRECQ", 2021; here all of
`F` counts, as a mean over places.) Gradients go backwards block by block: one is in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from edgeq.core.sampling import spread
from edgeq.core.tasks import Task
from edgeq.models.original.blocks import Blocks
from edgeq.models.sentence_head import Pooling
from edgeq.pipeline.learn.stream import Stream
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.statistics import Feed

_TOKENS = 4096  # of all samples together, about
_LONGEST = 256  # tokens of a sample
_DRAWN = 2  # answers for each place
_DAMPING = 0.03  # share of the mean of F's eigenvalues on its diagonal


def output_costs(
    blocks: Blocks, task: Task, pooling: Pooling, feeds: Sequence[Feed], folder: Path, seed: int
) -> list[Floats]:
    """`F` of each block, float32 `(hidden, hidden)`, with eigenvalues of mean 1 and damped."""
    samples = _samples(feeds)
    states = [Stream(folder / "0")]
    states[0].fill(blocks.embed(samples, lambda name: None))
    for index in range(len(blocks)):
        with blocks.opened(index) as block:
            states.append(states[-1].after(block, folder / str(index + 1)))
    random = torch.Generator().manual_seed(seed)
    gradients = [
        _drawn(blocks, task, pooling, feed, states[-1].batch([at]), random)
        for at, feed in enumerate(samples)
    ]
    found = []
    for index in reversed(range(len(blocks))):
        found.append(_damped(gradients))
        with blocks.opened(index) as block:
            for at, later in enumerate(gradients):
                state = states[index].batch([at]).requires_grad_()
                output = block.run(state, {})
                gradients[at] = [
                    torch.autograd.grad(output, state, each, retain_graph=True)[0] for each in later
                ]
    return found[::-1]


def _samples(feeds: Sequence[Feed]) -> list[Feed]:
    """A few, spread over all, and no longer than necessary."""
    cut = [{name: value[:, :_LONGEST] for name, value in feed.items()} for feed in feeds]
    lengths = [next(iter(feed.values())).shape[1] for feed in cut]
    count = max(1, min(len(cut), round(_TOKENS * len(cut) / sum(lengths))))
    return spread(cut, count)


def _drawn(
    blocks: Blocks,
    task: Task,
    pooling: Pooling,
    feed: Feed,
    state: torch.Tensor,
    random: torch.Generator,
) -> list[torch.Tensor]:
    """Gradients of answers at the last block's output, `(1, tokens, hidden)` each."""
    state.requires_grad_()
    answers = blocks.answers(feed, state)
    if task.has_sentence_head:
        answer = functional.normalize(_pooled(answers[0], pooling), dim=0)
        ways = [torch.randn(answer.shape, generator=random) for _ in range(_DRAWN)]
        values = [(answer * way).sum() for way in ways]
    else:
        known = answers.flatten(0, -2).log_softmax(-1)
        drawn = torch.multinomial(known.detach().exp(), _DRAWN, True, generator=random)
        values = list(known.gather(1, drawn).sum(0))
    return [torch.autograd.grad(value, state, retain_graph=True)[0] for value in values]


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


def _damped(gradients: Sequence[Sequence[torch.Tensor]]) -> Floats:
    rows = torch.cat([each[0] for drawn in gradients for each in drawn])
    found = rows.T @ rows
    found /= found.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    found.diagonal().add_(_DAMPING)
    costs: Floats = found.numpy().astype(np.float32)
    return costs
