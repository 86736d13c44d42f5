"""Alternating updates: several hidden states, of which each layer computes one and predicts all.

Baykal et al., "Alternating Updates for Efficient Transformers", 2023 (arXiv:2301.13310).
"""

from __future__ import annotations

from dataclasses import dataclass

SCALE = "altup.correct_output_scale.weight"


@dataclass(frozen=True)
class AltUp:
    """count: hidden states. active: the one that layers compute. clip: the largest coefficient of a
    correction. scaled: whether the corrected state has a factor for each column in front of the
    gate of the embeddings of its layer. rank: of a layer's second way around its attention
    (LAuReL). sparsity: for each layer the share of its gates that are set to zero, by their mean
    and deviation.
    """

    count: int
    active: int
    clip: float
    scaled: bool
    rank: int
    sparsity: tuple[float, ...]

    def tensors(self, hidden: int) -> dict[str, tuple[int, ...]]:
        """The weights outside all layers, by name."""
        return {
            f"model.{kind}.{place}.weight": (hidden, hidden)
            for kind in ("altup_projections", "altup_unembed_projections")
            for place in range(self.count - 1)
        }

    def layer_tensors(self, hidden: int) -> dict[str, tuple[int, ...]]:
        """The weights by their names in a layer."""
        return {
            SCALE: (hidden,),
            "altup.correction_coefs.weight": (self.count, self.count),
            "altup.prediction_coefs.weight": (self.count**2, self.count),
            "altup.modality_router.weight": (self.count, hidden),
            "altup.router_norm.weight": (hidden,),
            "laurel.linear_left.weight": (self.rank, hidden),
            "laurel.linear_right.weight": (hidden, self.rank),
            "laurel.post_laurel_norm.weight": (hidden,),
        }
