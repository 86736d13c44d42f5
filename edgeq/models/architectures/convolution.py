"""Short convolutions: gated sums over a few positions, which some layers have for attention."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Convolution:
    """The input becomes a gate, a second gate and a value; gate × value is convolved column by
    column, and multiplied by the second gate.

    taps: positions that a sum covers, its own the last of them. bias: of all three weights. layers:
    those with a convolution in place of attention.
    """

    taps: int
    bias: bool
    layers: frozenset[int]

    def carried(self, hidden: int) -> dict[str, list[int]]:
        """What a layer carries on to the next call: shapes by name."""
        return {"conv": [1, self.taps - 1, hidden]}

    def tensors(self, hidden: int) -> dict[str, tuple[int, ...]]:
        """The weights by their names in a layer."""
        shapes: dict[str, tuple[int, ...]] = {
            "conv.in_proj.weight": (3 * hidden, hidden),
            "conv.conv.weight": (hidden, 1, self.taps),
            "conv.out_proj.weight": (hidden, hidden),
        }
        if self.bias:
            rows = {name: shape[0] for name, shape in shapes.items()}
            shapes |= {f"{name.removesuffix('weight')}bias": (rows[name],) for name in rows}
        return shapes
