"""Qwen 3 with experts: a qwen3 whose layers have a mixture in place of a feed-forward layer."""

from __future__ import annotations

from dataclasses import replace

from edgeq.models.architectures.decoder import Decoder
from edgeq.models.architectures.experts import Experts
from edgeq.models.architectures.family import Family, LlamaCpp
from edgeq.models.architectures.qwen3 import QWEN3
from edgeq.models.settings import Settings


def _read(family: Family, config: Settings) -> Decoder:
    if config.flag("use_sliding_window"):
        raise config.unusable("use_sliding_window", True, "false: no model of the family has one")
    config.ignore(["output_router_logits", "router_aux_loss_coef"])  # for training
    decoder = QWEN3.read(family, config)
    return replace(decoder, experts=_experts(config, decoder.layers))


def _experts(config: Settings, layers: int) -> Experts:
    by_version_5 = "num_local_experts" in config
    count = config.whole("num_local_experts" if by_version_5 else "num_experts")
    used = config.whole("num_experts_per_tok", largest=count)
    every, dense = config.whole("decoder_sparse_step", 1), config.get("mlp_only_layers", [])
    if not isinstance(dense, list) or not set(map(str, dense)) <= set(map(str, range(layers))):
        raise config.unusable("mlp_only_layers", dense, f"a list of layers below {layers}")
    return Experts(
        count=count,
        used=used,
        width=config.whole("moe_intermediate_size"),
        normalized=config.flag("norm_topk_prob"),
        layers=frozenset(n for n in range(layers) if n not in dense and (n + 1) % every == 0),
    )


QWEN3_MOE = Family(
    "qwen3_moe",
    _read,
    LlamaCpp("qwen3moe"),
    required=("num_key_value_heads", "head_dim", "num_experts_per_tok", "norm_topk_prob"),
)
