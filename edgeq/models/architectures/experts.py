"""Mixtures of experts: many small feed-forward layers, of which each token passes through a few."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_JOINED = "experts|altup_projections|altup_unembed_projections"  # one tensor in GGUF files
_EXPERT = re.compile(rf"(.*\.(?:{_JOINED}))\.(\d+)\.(.+)")
ROUTER = "mlp.gate.weight"
"""The name of a router's weight in its layer."""
PREFERENCE = "mlp.expert_probs.bias"
"""The name of what the experts' shares are raised by where the used ones are chosen."""


@dataclass(frozen=True)
class Experts:
    """A router's softmax gives every expert a share of each token, and the largest `used` count.

    count: of experts in a layer. width: of each one's feed-forward layer. normalized: the used
    shares are divided by their sum. layers: those with experts in place of a feed-forward layer.
    bias: of the router and of all weights. limit: with one, gates are at most that, the others
    between it and its negative, and the product is g·σ(1.702·g)·(1 + u). sigmoid: each share is one
    of its own score alone. preference: experts are chosen by their shares plus a number for each.
    scale: factor of the used shares. shared: width of one more that every token passes through,
    times the sigmoid of a score; None without.
    """

    count: int
    used: int
    width: int
    normalized: bool
    layers: frozenset[int]
    bias: bool = False
    limit: float | None = None
    sigmoid: bool = False
    preference: bool = False
    scale: float = 1.0
    shared: int | None = None

    @property
    def used_width(self) -> int:
        """The width of all feed-forward layers together that one token passes through."""
        return self.used * self.width + (self.shared or 0)

    def tensors(self, hidden: int) -> dict[str, tuple[int, ...]]:
        """The weights of a layer's router and experts, by their names in it."""
        shapes: dict[str, tuple[int, ...]] = {ROUTER: (self.count, hidden)}
        widths = {f"mlp.experts.{expert}": self.width for expert in range(self.count)}
        if self.shared:
            shapes["mlp.shared_expert_gate.weight"] = (1, hidden)
            widths["mlp.shared_expert"] = self.shared
        for stem, width in widths.items():
            shapes[f"{stem}.gate_proj.weight"] = (width, hidden)
            shapes[f"{stem}.up_proj.weight"] = (width, hidden)
            shapes[f"{stem}.down_proj.weight"] = (hidden, width)
        if self.preference:
            shapes[PREFERENCE] = (self.count,)
        if self.bias:
            rows = {name: shape[0] for name, shape in shapes.items()}
            shapes |= {f"{name.removesuffix('weight')}bias": (rows[name],) for name in rows}
        return shapes


def of_all_experts(name: str) -> tuple[str, int] | None:
    """A weight's name without its expert's number, and that number; None if it is of no expert.

    >>> of_all_experts("model.layers.0.mlp.experts.3.up_proj.weight")
    ('model.layers.0.mlp.experts.up_proj.weight', 3)
    """
    found = _EXPERT.fullmatch(name)
    return (f"{found[1]}.{found[3]}", int(found[2])) if found else None


def of_expert(name: str, expert: int) -> str:
    """The inverse of `of_all_experts`.

    >>> of_expert("model.layers.0.mlp.experts.up_proj.weight", 3)
    'model.layers.0.mlp.experts.3.up_proj.weight'
    """
    return name.replace(".experts.", f".experts.{expert}.")


def expert_of(name: str) -> int:
    """The number of a weight's expert, to sort by; 0 for weights of no expert."""
    found = of_all_experts(name)
    return found[1] if found else 0


def active_shares(experts: Experts, names: Mapping[str, object]) -> dict[str, float]:
    """The fraction of each expert's weights that one token reads on average."""
    share = experts.used / experts.count
    return {name: share for name in names if of_all_experts(name)}
