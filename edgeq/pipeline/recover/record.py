"""What training an adapter came to, as an artifact's record has it."""

from __future__ import annotations

import importlib.metadata

from edgeq.core.artifact import Frozen


class Recovery(Frozen):
    """How an adapter was trained, and what it gave back.

    kl_before, kl_after: mean KL divergence from the full model in nats on held-back calibration
    text, in float32 arithmetic with the weights as the file has them; runtimes that round
    activations as well are a little further off. best_step: of the adapter that was best there; 0
    is the one that training began with. is_kept: whether it was better than none at all. tokens:
    that each step looked at. trained_with: packages and their versions.
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
        """What a person is told where no adapter is kept."""
        return (
            f"no adapter: none of rank {self.rank} was better on held-back text than none, "
            f"after {self.steps} steps"
        )


def versions() -> dict[str, str]:
    """Versions of the packages that decide the bytes."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
