"""Embeddings of each layer: rows of a second table, of which every layer has its own columns."""

from __future__ import annotations

from dataclasses import dataclass

TABLE = "model.embed_tokens_per_layer.weight"


@dataclass(frozen=True)
class PerLayer:
    """A token's row has `width` columns for each layer. They are added to a projection of its
    embedding, and multiply what a layer's gate makes of its output.
    """

    width: int

    def tensors(self, layers: int, hidden: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
        """The weights outside all layers, by name."""
        return {
            TABLE: (vocabulary, layers * self.width),
            "model.per_layer_model_projection.weight": (layers * self.width, hidden),
            "model.per_layer_projection_norm.weight": (self.width,),
        }

    def layer_tensors(self, hidden: int) -> dict[str, tuple[int, ...]]:
        """The weights by their names in a layer."""
        return {
            "per_layer_input_gate.weight": (self.width, hidden),
            "per_layer_projection.weight": (hidden, self.width),
            "post_per_layer_input_norm.weight": (hidden,),
        }
