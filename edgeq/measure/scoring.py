"""Compare two models' logits token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from edgeq.core.errors import InvalidInput, NotComputed, Problem
from edgeq.formats.base import Floats

Doubles = npt.NDArray[np.float64]


_BLOCK_VALUES = 1 << 20  # elements of one float64 array: 8 MiB, whatever the vocabulary


@dataclass(frozen=True)
class Scores:
    """The scores of one window: float64 arrays with one value for every scored token.

    kl in nats; nll_a, nll_b: negative log-likelihood, in nats, of the next token under reference
    and candidate; dp: its probability under the candidate minus that under the reference; same: 1
    if both have the same most likely token, else 0.
    """

    kl: Doubles
    nll_a: Doubles
    nll_b: Doubles
    dp: Doubles
    same: Doubles


def score(reference: Floats, candidate: Floats, following: Sequence[int]) -> Scores:
    """Compare two models' logits, float32 `(tokens, vocabulary)`, row by row.

    following: the next token of the text for each row. Raises InvalidInput if a logit is NaN or
    infinite, or the shapes differ.
    """
    if reference.shape != candidate.shape or len(reference) != len(following):
        what = f"{reference.shape} and {candidate.shape} for {len(following)} tokens"
        raise InvalidInput(Problem("logits", f"cannot be compared: {what}", "use the same text"))
    rows = max(1, _BLOCK_VALUES // max(1, reference.shape[1]))
    blocks = [
        _score_block(
            reference[at : at + rows], candidate[at : at + rows], following[at : at + rows]
        )
        for at in range(0, len(reference), rows)
    ]
    joined = {f.name: np.concatenate([getattr(b, f.name) for b in blocks]) for f in fields(Scores)}
    return Scores(**joined)


def _score_block(reference: Floats, candidate: Floats, following: Sequence[int]) -> Scores:
    log_p = log_softmax(reference, "the reference's logits")
    log_q = log_softmax(candidate, "the candidate's logits")
    row = np.arange(len(following))
    nll_a, nll_b = -log_p[row, following], -log_q[row, following]
    same = (reference.argmax(1) == candidate.argmax(1)).astype(np.float64)
    np.subtract(log_p, log_q, out=log_q)
    kl = np.einsum("ij,ij->i", np.exp(log_p, out=log_p), log_q)
    return Scores(kl, nll_a, nll_b, np.exp(-nll_b) - np.exp(-nll_a), same)


def log_softmax(logits: Floats, where: str) -> Doubles:
    """Logarithms of the probabilities in each row. Raises NotComputed for NaN and infinity."""
    if not np.isfinite(logits).all():
        what = "contain NaN or infinity, so they are not a distribution"
        raise NotComputed(Problem(where, what, "the model is broken, or overflows in its runtime"))
    result = logits.astype(np.float64)
    result -= result.max(1, keepdims=True)
    result -= np.log(np.exp(result).sum(1, keepdims=True))
    return result
