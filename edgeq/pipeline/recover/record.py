"""The result of training an adapter, for an artifact's record."""

from __future__ import annotations

import importlib.metadata

from edgeq.core.artifact import Frozen


class Recovery(Frozen):
    """How an adapter was trained, and what it recovered.

    kl_before, kl_after: mean KL divergence from the full model in nats on held-out calibration
    text, in float32 arithmetic with the weights as the file has them; runtimes that also round
    activations diverge slightly more. best_step: the step of the best adapter; 0 is the initial
    one. is_kept: whether it was better than no adapter. tokens: per step. trained_with: packages
    and their versions.
    """

    rank: int
    steps: int
    seed: int
    learning_rate: float
    tokens: int
    held_back_tokens: int
    kl_before: float
    kl_after: float
    best_step: int
    is_kept: bool
    trained_with: dict[str, str]

    @property
    def why_none(self) -> str:
        """The message if no adapter is kept."""
        return (
            f"no adapter: none of rank {self.rank} was better on held-out text than no adapter, "
            f"after {self.steps} steps"
        )


def versions() -> dict[str, str]:
    """Versions of the packages that decide the bytes."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
