"""Names of weights in GGUF files, and llama.cpp's architecture of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.architectures import FAMILIES, decoder_of
from edgeq.models.architectures.experts import of_all_experts
from edgeq.quantize.ggml.mixes import MixFacts

_DECODER = {
    "model.embed_tokens": "token_embd",
    "lm_head": "output",
    "model.embed_tokens_per_layer": "per_layer_token_embd",
    "model.per_layer_model_projection": "per_layer_model_proj",
    "model.per_layer_projection_norm": "per_layer_proj_norm",
    "model.altup_projections": "altup_proj",
    "model.altup_unembed_projections": "altup_unembd_proj",
}
_DECODER_LAYER = {
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.sinks": "attn_sinks",
    "mlp.down_proj": "ffn_down",
}
_QKV = {f"self_attn.{name}_proj": f"attn_{name}" for name in ("q", "k", "v")}
_JOINED_QKV = {"self_attn.qkv_proj": "attn_qkv"}
_GATED = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
_EXPERTS = {
    "mlp.gate": "ffn_gate_inp",
    "mlp.expert_probs": "exp_probs_b",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    **{f"mlp.experts.{part}_proj": f"ffn_{part}_exps" for part in ("gate", "up", "down")},
    **{f"mlp.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
}
_BARE = "ssm_a"  # without "weight" behind it
_CONVOLUTION = {
    **{f"conv.{part}_proj": f"shortconv.{part}_proj" for part in ("in", "out")},
    "conv.conv": "shortconv.conv",
}
_DELTA = {
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.A_log": _BARE,
    "linear_attn.dt": "ssm_dt",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out",
}
_PER_LAYER = {
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
    "layer_scale": "layer_output_scale",
}
_ALTUP = {
    "altup.correct_output_scale": "altup_correct_scale",
    "altup.correction_coefs": "altup_correct_coef",
    "altup.prediction_coefs": "altup_predict_coef",
    "altup.modality_router": "altup_router",
    "altup.router_norm": "altup_router_norm",
    "laurel.linear_left": "laurel_l",
    "laurel.linear_right": "laurel_r",
    "laurel.post_laurel_norm": "laurel_post_norm",
}
_JOINED_GATE = {"mlp.gate_up_proj": "ffn_up"}
_BERT = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_BERT_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_LAYER = re.compile(r"(?:model\.layers|encoder\.layer)\.(\d+)\.(.+)")
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


def family_of(config: Mapping[str, Any], where: str) -> str:
    """`model_type` of a config.json that can be converted to GGUF.

    Raises InvalidInput at `where` for one that cannot, naming those that can.
    """
    family = config.get("model_type")
    if family not in (*FAMILIES, "bert"):
        what = f"the architecture {family!r} cannot be converted to GGUF"
        remedy = f"supported: {', '.join((*FAMILIES, 'bert'))}"
        raise InvalidInput(Problem(where, what, remedy))
    return str(family)


def architecture_of(family: str) -> str:
    """llama.cpp's `general.architecture` of a `model_type`."""
    return "bert" if family == "bert" else FAMILIES[family].llama_cpp.architecture


def gguf_name(family: str, name: str) -> str:
    """The name in a GGUF file of the weight with this Hugging Face name.

    The experts of a layer share one: their weights lie there one below the other. Raises
    InvalidInput for a weight the family does not have.

    >>> gguf_name("llama", "model.layers.3.self_attn.q_proj.weight")
    'blk.3.attn_q.weight'
    """
    shared = of_all_experts(name)
    own = shared[0] if shared else name
    module, _, kind = own.removeprefix("bert.").rpartition(".")
    whole, of_layer = _tables(family)
    layer = _LAYER.fullmatch(module)
    found = of_layer.get(layer.group(2)) if layer else whole.get(module)
    if found is None or kind not in ("weight", "bias"):
        what = f"{name} is not a weight of a {family} model with a name in GGUF"
        raise InvalidInput(Problem("model.safetensors", what, "use a model without it"))
    stored = found if found == _BARE else f"{found}.{kind}"
    return f"blk.{layer.group(1)}.{stored}" if layer else stored


def hugging_face_name(family: str, name: str) -> str | None:
    """The inverse of `gguf_name`; None for tensors of a GGUF file that are not weights.

    Without an expert's number, for a tensor of them all.

    >>> hugging_face_name("bert", "blk.0.layer_output_norm.bias")
    'encoder.layer.0.output.LayerNorm.bias'
    """
    own = f"{name}.weight" if name.endswith(f".{_BARE}") else name
    module, _, kind = own.rpartition(".")
    whole, of_layer = _tables(family)
    block = _BLOCK.fullmatch(module)
    table, wanted = (of_layer, block.group(2)) if block else (whole, module)
    found = next((own for own, named in table.items() if named == wanted), None)
    if found is None:
        return None
    if block is None:
        return f"{found}.{kind}"
    prefix = "encoder.layer" if family == "bert" else "model.layers"
    return f"{prefix}.{block.group(1)}.{found}.{kind}"


def gguf_names(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """`gguf_name` of each of `names`, for the model of a config.json. Raises InvalidInput."""
    family = family_of(config, "config.json")
    return {name: gguf_name(family, name) for name in names}


def mix_facts(config: Mapping[str, Any]) -> MixFacts:
    """Facts about the model of a config.json for llama.cpp's mixes. Raises InvalidInput."""
    family = family_of(config, "config.json")
    if family == "bert":
        heads = int(config["num_attention_heads"])
        return MixFacts("bert", int(config["num_hidden_layers"]), heads, heads)
    decoder = decoder_of(config, "config.json")
    experts = decoder.experts.count if decoder.experts else 0
    none_first = decoder.convolution is not None and not decoder.attends(0)
    kv_heads = 0 if none_first else decoder.kv_heads
    return MixFacts(architecture_of(family), decoder.layers, decoder.heads, kv_heads, experts)


def _tables(family: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    if family == "bert":
        return _BERT, _BERT_LAYER
    known = FAMILIES[family]
    norms = {
        known.norms.before_attention: "attn_norm",
        known.norms.after_attention: "post_attention_norm",
        known.norms.before_feed_forward: known.llama_cpp.feed_forward_norm,
        known.norms.after_feed_forward: "post_ffw_norm",
    }
    named = {own: name for own, name in norms.items() if own is not None}
    gated = _JOINED_GATE if known.fused_gate_up else _GATED
    whole = {**_DECODER, "model.norm": known.llama_cpp.output_norm}
    qkv = _JOINED_QKV if known.fused_qkv else _QKV
    others = {**_EXPERTS, **_CONVOLUTION, **_DELTA, **_PER_LAYER, **_ALTUP}
    return whole, {**_DECODER_LAYER, **named, **qkv, **gated, **others}
