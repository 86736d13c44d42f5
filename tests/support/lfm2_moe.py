"""Small models of LFM2 with experts, which older versions of transformers do not know.

Made from a dense LFM2 whose later layers get the experts of DeepSeek 3: these choose and weigh
alike. Its shared expert is of zeros.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support import tiny_decoders

EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
_PARTS = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def make(folder: Path, **overrides: Any) -> tuple[Path, Any]:
    """Save a model; gives `folder` back, and the network of the same answers."""
    import torch
    from safetensors.torch import load_file, save_file

    tiny_decoders.make(folder, "lfm2", block_auto_adjust_ff_dim=False)
    settings = json.loads((folder / "config.json").read_text())
    settings = {k: v for k, v in settings.items() if not k.startswith("block_")}
    settings |= {**EXPERTS, "num_dense_layers": 1, "norm_topk_prob": True, **overrides}
    settings |= {"model_type": "lfm2_moe", "architectures": ["Lfm2MoeForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(settings))
    network = tiny_decoders.network("lfm2", block_auto_adjust_ff_dim=False)
    tensors = load_file(folder / "model.safetensors")
    for layer in range(settings["num_dense_layers"], settings["num_hidden_layers"]):
        own = _experts(settings)
        network.model.layers[layer].feed_forward = own
        stem = f"model.layers.{layer}.feed_forward"
        tensors = {k: v for k, v in tensors.items() if not k.startswith(f"{stem}.")}
        tensors[f"{stem}.gate.weight"] = own.gate.weight.detach()
        tensors[f"{stem}.expert_bias"] = own.gate.e_score_correction_bias
        for name, weight in own.experts.named_parameters():
            expert, part, kind = name.split(".")
            tensors[f"{stem}.experts.{expert}.{_PARTS[part]}.{kind}"] = weight.detach()
    save_file({k: torch.Tensor.contiguous(v) for k, v in tensors.items()}, folder / "m", {})
    (folder / "m").replace(folder / "model.safetensors")
    return folder, network.eval()


def _experts(settings: dict[str, Any]) -> Any:
    import torch
    from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    made = DeepseekV3MoE(
        DeepseekV3Config(
            hidden_size=settings["hidden_size"],
            moe_intermediate_size=settings["moe_intermediate_size"],
            n_routed_experts=settings["num_experts"],
            num_experts_per_tok=settings["num_experts_per_tok"],
            norm_topk_prob=settings["norm_topk_prob"],
            routed_scaling_factor=settings.get("routed_scaling_factor", 1.0),
            n_shared_experts=1,
            n_group=1,
            topk_group=1,
        )
    )
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.normal_(0, 0.0 if "shared" in name else 0.08)
        made.gate.e_score_correction_bias.normal_(0, 0.2)
    return made
