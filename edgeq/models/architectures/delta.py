"""The gated delta rule: attention whose memory is one matrix for each head, whatever the length."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Delta:
    """Queries, keys and values are convolved over a few positions; at each, a head's matrix decays,
    and what it holds for the key moves towards the value.

    taps: positions that a convolution covers. key_heads, value_heads: several of the second may
    share one of the first. key_width, value_width: of a head. layers: those with it in place of
    attention.
    """

    taps: int
    key_heads: int
    value_heads: int
    key_width: int
    value_width: int
    layers: frozenset[int]

    @property
    def key(self) -> int:
        """Width of all keys, and of all queries."""
        return self.key_heads * self.key_width

    @property
    def value(self) -> int:
        """Width of all values."""
        return self.value_heads * self.value_width

    @property
    def convolved(self) -> int:
        """Width of queries, keys and values."""
        return 2 * self.key + self.value

    def carried(self, hidden: int) -> dict[str, list[int]]:
        """What a layer carries on to the next call: shapes by name."""
        return {
            "conv": [1, self.taps - 1, self.convolved],
            "state": [1, self.value_heads, self.key_width, self.value_width],
        }

    def tensors(self, hidden: int) -> dict[str, tuple[int, ...]]:
        """The weights by their names in a layer."""
        shapes: dict[str, tuple[int, ...]] = {
            "in_proj_qkv.weight": (self.convolved, hidden),
            "in_proj_z.weight": (self.value, hidden),
            "in_proj_b.weight": (self.value_heads, hidden),
            "in_proj_a.weight": (self.value_heads, hidden),
            "conv1d.weight": (self.convolved, 1, self.taps),
            "A_log.weight": (self.value_heads,),
            "dt.bias": (self.value_heads,),
            "norm.weight": (self.value_width,),
            "out_proj.weight": (hidden, self.value),
        }
        return {f"linear_attn.{name}": shape for name, shape in shapes.items()}
