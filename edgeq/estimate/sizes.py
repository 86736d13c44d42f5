"""Sizes of a model that memory and speed depend on, from its configuration alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.estimate.hybrid import hybrid_sizes
from edgeq.models.architectures import FAMILIES, Decoder, decoder_of
from edgeq.models.architectures.experts import active_shares
from edgeq.models.architectures.per_layer import TABLE
from edgeq.models.architectures.wrappers import TEXT, text_part

Shapes = Mapping[str, tuple[int, ...]]
_TABLES = ("embed_tokens.weight", "word_embeddings.weight", "token_embd.weight", "wte.weight")
_HEAD_WIDTH = 64  # for configurations without a head width: typical of small models


@dataclass(frozen=True)
class Sizes:
    """A transformer's sizes, as far as they affect memory and speed.

    shapes: every weight, outputs or tokens first; a stack of experts is one weight of three axes.
    wide: of the feed-forward layer that one token passes through. query, key: widths of a
    position's queries, and of its keys or values, of the widest layer. windows: for each layer with
    a cache the positions it keeps, None for all; keys: of each the width, empty if all are `key`.
    state: bytes that layers without a cache keep instead. active: fraction of each weight that one
    token reads, if not all. is_decoder: generates text; else an encoder.
    """

    shapes: Shapes
    hidden: int
    wide: int
    heads: int
    query: int
    key: int
    windows: tuple[int | None, ...]
    tied: bool
    longest: int
    is_decoder: bool = True
    state: int = 0
    active: Mapping[str, float] = field(default_factory=dict)
    keys: tuple[int, ...] = ()

    @property
    def parameters(self) -> int:
        """All weights, each counted once."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def vocabulary(self) -> int:
        """Rows of the token table."""
        table = table_name(self.shapes)
        return self.shapes[table][0] if table else 0

    @property
    def active_parameters(self) -> float:
        """Weights that one token uses; none of a table that is only looked up."""
        return sum(math.prod(shape) * self.share(name) for name, shape in self.shapes.items())

    def share(self, name: str) -> float:
        """The fraction of a weight that is read for one token."""
        if name == table_name(self.shapes) and not self.tied:
            return 0.0
        return self.active.get(name, 1.0)

    def cache_bytes(self, context: int, bytes_per_value: float) -> float:
        """The KV cache for `context` positions, limited to its window in every layer."""
        values = sum(min(context, w or context) * key for w, key in self.cached())
        return 2 * values * bytes_per_value + self.state

    def cached(self) -> Iterator[tuple[int | None, int]]:
        """Window and width of keys of every layer with a cache."""
        return zip(self.windows, self.keys or (self.key,) * len(self.windows), strict=True)


def table_name(shapes: Shapes) -> str | None:
    """The weight whose rows are the tokens, if one has a usual name."""
    return next((name for name in shapes if name.endswith(_TABLES)), None)


def sizes_of_decoder(decoder: Decoder) -> Sizes:
    """The sizes of a language model that edgeq builds."""
    shapes, experts = decoder.tensors(), decoder.experts
    return Sizes(
        shapes=shapes,
        hidden=decoder.hidden,
        wide=experts.used_width if experts else decoder.feed_forward,
        heads=decoder.heads,
        query=max(decoder.heads * decoder.head_dim_of(n) for n in range(decoder.layers)),
        key=max(decoder.cached_widths),
        keys=decoder.cached_widths,
        windows=decoder.cached_windows,
        tied=decoder.tied,
        longest=decoder.context,
        state=decoder.state_bytes,
        active={
            **(active_shares(experts, shapes) if experts else {}),
            **({TABLE: 0.0} if decoder.per_layer else {}),  # only looked up
        },
    )


def sizes_of_config(config: Mapping[str, Any], where: str) -> Sizes:
    """The sizes described by a `config.json`; `where` is the place that errors name.

    Language models that edgeq builds, mixtures of experts, hybrids with linear attention, and
    BERT-like encoders. Raises InvalidInput for configurations that it cannot read.
    """
    config = text_part(config, where)
    inner = config.get(TEXT)
    if isinstance(inner, Mapping) and "hidden_size" not in config:
        config = inner
    if config.get("model_type") in FAMILIES:
        return sizes_of_decoder(decoder_of(config, where))
    try:
        if "rms_norm_eps" in config or "num_key_value_heads" in config:
            return Sizes(**hybrid_sizes(config))
        return _encoder(config)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        what = f"its sizes cannot be read: {error} is missing or invalid"
        remedy = "give the config.json of a transformer in Hugging Face's format"
        raise InvalidInput(Problem(where, what, remedy)) from None


def _encoder(config: Mapping[str, Any]) -> Sizes:
    hidden = int(config.get("hidden_size") or config["dim"])
    layers = int(config.get("num_hidden_layers") or config["n_layers"])
    heads = int(config.get("num_attention_heads") or config["n_heads"])
    wide = int(config.get("intermediate_size") or config["hidden_dim"])
    longest = int(config["max_position_embeddings"])
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (int(config["vocab_size"]), hidden),
        "embeddings.position_embeddings.weight": (longest, hidden),
    }
    for layer in range(layers):
        start = f"encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            shapes[f"{start}{part}.weight"] = (hidden, hidden)
        shapes[f"{start}attention.output.dense.weight"] = (hidden, hidden)
        shapes[f"{start}intermediate.dense.weight"] = (wide, hidden)
        shapes[f"{start}output.dense.weight"] = (hidden, wide)
    return Sizes(
        shapes=shapes,
        hidden=hidden,
        wide=wide,
        heads=heads,
        query=hidden,
        key=hidden,
        windows=(),
        tied=False,
        longest=longest,
        is_decoder=False,
    )


def sizes_of_shapes(shapes: Shapes, *, is_decoder: bool, longest: int) -> Sizes | None:
    """The sizes of a transformer with Hugging Face's weight names; None for others.

    No weight's shape states the width of a head; without a norm of one it is a guess.
    """
    table = table_name(shapes)
    if table is None:
        return None

    def rows(*endings: str) -> int:
        return max((s[0] for n, s in shapes.items() if n.endswith(endings)), default=0)

    hidden = shapes[table][1]
    query = rows("q_proj.weight", "attention.self.query.weight", "q_lin.weight")
    key = rows("k_proj.weight", "attention.self.key.weight", "k_lin.weight") or query
    fused = rows("qkv_proj.weight")
    if fused:  # queries are as wide as the input of the next weight
        query = max(s[1] for n, s in shapes.items() if n.endswith("o_proj.weight"))
        key = (fused - query) // 2
    wide = rows("gate_proj.weight", "intermediate.dense.weight", "lin1.weight")
    wide = wide or rows("gate_up_proj.weight") // 2
    if not (query and wide):
        return None
    head = rows("q_norm.weight") or _HEAD_WIDTH
    layers = sum(n.endswith(("down_proj.weight", "intermediate.dense.weight")) for n in shapes)
    return Sizes(
        shapes=shapes,
        hidden=hidden,
        wide=wide,
        heads=max(1, query // head),
        query=query,
        key=key,
        windows=(None,) * layers if is_decoder else (),
        tied=is_decoder and not any(name.startswith("lm_head") for name in shapes),
        longest=longest,
        is_decoder=is_decoder,
    )
