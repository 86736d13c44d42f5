"""Small models of Qwen 3.5, made from Qwen3-Next's, which older versions of transformers know.

Both compute the same; Qwen3-Next stores several weights in one, head by head.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support import tiny_decoders

KEY_HEADS, WIDTH = 2, 64


def make(
    folder: Path, *, value_heads: int = KEY_HEADS, layers: int = 5, experts: bool = False
) -> tuple[Path, Any]:
    """Save a model; gives `folder` back, and the network of the same answers."""
    import torch
    import transformers
    from safetensors.torch import save_file

    tokenizer = tiny_decoders.tokenizer_of("qwen2")
    kinds = ["full_attention" if layer % 4 == 3 else "linear_attention" for layer in range(layers)]
    settings: dict[str, Any] = {
        **{"hidden_size": tiny_decoders.HIDDEN, "intermediate_size": tiny_decoders.WIDE},
        **{"num_hidden_layers": layers, "num_attention_heads": tiny_decoders.HEADS},
        **{"num_key_value_heads": tiny_decoders.KV_HEADS, "head_dim": 64, "rope_theta": 1e7},
        **{"max_position_embeddings": 512, "vocab_size": tokenizer.get_vocab_size() + 20},
        **{"partial_rotary_factor": 0.25, "tie_word_embeddings": True, "initializer_range": 0.08},
        **{"linear_num_key_heads": KEY_HEADS, "linear_num_value_heads": value_heads},
        **{"linear_key_head_dim": WIDTH, "linear_value_head_dim": WIDTH, "rms_norm_eps": 1e-6},
        **{"linear_conv_kernel_dim": 4, "layer_types": kinds, "hidden_act": "silu"},
        **{"eos_token_id": tokenizer.token_to_id("<|end|>")},
    }
    torch.manual_seed(0)
    further: dict[str, Any] = {"mlp_only_layers": list(range(layers))}
    if experts:
        further = {
            **{"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 96},
            **{"shared_expert_intermediate_size": 64, "norm_topk_prob": True},
        }
        settings |= further
    kind = transformers.Qwen3NextConfig(**{**settings, **further}, attn_implementation="eager")
    network = transformers.Qwen3NextForCausalLM(kind)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 1:
                weight += 0.3 * torch.randn(weight.shape)
    folder.mkdir(parents=True)
    tensors = _apart(network.state_dict(), KEY_HEADS, value_heads // KEY_HEADS)
    tensors.pop("lm_head.weight")
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "m", {})
    (folder / "m").rename(folder / "model.safetensors")
    rope = {name: settings.pop(name) for name in ("rope_theta", "partial_rotary_factor")}
    family = "qwen3_5_moe_text" if experts else "qwen3_5_text"
    config = {"model_type": family, "rope_parameters": {**rope, "rope_type": "default"}}
    (folder / "config.json").write_text(json.dumps({**settings, **config}))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = tiny_decoders.special_names("qwen2")
    words = {**names, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return folder, network.eval()


def _apart(stored: dict[str, Any], heads: int, shared: int) -> dict[str, Any]:
    """Each projection by itself. heads: of keys. shared: value heads for each of these."""
    import torch

    found: dict[str, Any] = {}
    for name, weight in stored.items():
        stem, kind, _ = name.partition("in_proj_")
        by_head = weight.reshape(heads, -1, weight.shape[-1]) if kind else weight
        if name.endswith("in_proj_qkvz.weight"):
            sizes = [WIDTH, WIDTH, shared * WIDTH, shared * WIDTH]
            q, k, v, z = (part.flatten(0, 1) for part in by_head.split(sizes, 1))
            found[f"{stem}in_proj_qkv.weight"] = torch.cat([q, k, v])
            found[f"{stem}in_proj_z.weight"] = z
        elif name.endswith("in_proj_ba.weight"):
            b, a = (part.flatten(0, 1) for part in by_head.split(shared, 1))
            found |= {f"{stem}in_proj_b.weight": b, f"{stem}in_proj_a.weight": a}
        else:
            found[name] = weight
    return _joined(found)


def _joined(stored: dict[str, Any]) -> dict[str, Any]:
    """The experts of each layer in one tensor, gates above the others."""
    import torch

    found: dict[str, Any] = {}
    layers: dict[str, dict[str, Any]] = {}
    for name, weight in stored.items():
        stem, kind, own = name.partition(".experts.")
        if kind:
            layers.setdefault(f"{stem}{kind}", {})[own] = weight
        else:
            found[name] = weight
    for layer, parts in layers.items():
        each = range(len(parts) // 3)
        gates, ups, downs = (
            [parts[f"{expert}.{part}_proj.weight"] for expert in each]
            for part in ("gate", "up", "down")
        )
        pairs = zip(gates, ups, strict=True)
        found[f"{layer}gate_up_proj"] = torch.stack([torch.cat(pair) for pair in pairs])
        found[f"{layer}down_proj"] = torch.stack(downs)
    return found
