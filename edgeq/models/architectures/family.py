"""One family of language models: how its config.json is read, and what llama.cpp makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgeq.models.architectures.decoder import BEFORE, Decoder, Norms
from edgeq.models.settings import Settings

KEYS = tuple(f"self_attn.{part}.weight" for part in ("k_proj", "v_proj", "k_norm"))
"""The weights of a layer's keys and values."""


@dataclass(frozen=True)
class LlamaCpp:
    """What llama.cpp's implementation of a family computes; models that need more are refused.

    architecture: `general.architecture`. neighbours: it rotates column 2i of a head with column
    2i + 1. attention_bias: q, k, v and the output may have biases. part_of_head: it can rotate a
    part of each head. ropes: scalings beyond default, linear and yarn. period: every how many
    layers one has no window unless the file says otherwise, None if it has no windows. still: every
    how many layers one has no positions, None if all have. factors: it reads the factors of
    embeddings, attention, residuals and logits. growth: it reads `query_growth`. dense_first: its
    first layers may have no experts. gelu: its activation. layered: it reads
    for each layer whether it has a window, and sizes of those without. output_norm,
    feed_forward_norm: its names of the last norm and of that in front of the feed-forward layer.
    """

    architecture: str
    neighbours: bool = False
    attention_bias: bool = False
    square: bool = False
    part_of_head: bool = False
    ropes: tuple[str, ...] = ()
    period: int | None = None
    still: int | None = None
    factors: bool = False
    growth: bool = False
    dense_first: bool = False
    gelu: bool = False
    layered: bool = False
    output_norm: str = "output_norm"
    feed_forward_norm: str = "ffn_norm"


@dataclass(frozen=True)
class Family:
    """A `model_type` of config.json.

    read: its configuration. required: keys that must be in the file, since transformers' default is
    another one than most families'. norms, fused_*: as in `Decoder`. stacked: names of layers'
    weights in its files that are several of ours, one below the other. joined_experts: names of
    those of all experts, (experts, columns, rows) or for biases (experts, rows); rows alternate
    between the named weights of one expert. experts_by_rows: they are (experts, rows, columns)
    instead, the named weights one below the other. extended: tables that may end at the first
    token of images, with the key for the rows that they need: the further ones are the first row.
    unread: weights of layers that borrow keys and values, which nothing reads; files may lack them.
    """

    name: str
    read: Callable[[Family, Settings], Decoder]
    llama_cpp: LlamaCpp
    required: tuple[str, ...] = ("num_key_value_heads",)
    norms: Norms = BEFORE
    fused_qkv: bool = False
    fused_gate_up: bool = False
    stacked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    joined_experts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    experts_by_rows: bool = False
    extended: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
