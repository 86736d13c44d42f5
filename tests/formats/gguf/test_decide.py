"""Which GGUF type a weight gets: rules first, then the mix or the variant; obstacles are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.decide import GgufDecision, decide_gguf
from edgeq.formats.gguf.names import gguf_names, mix_facts
from edgeq.models.architectures import decoder_of
from edgeq.quantize.ggml.mixes import MIXES, mix_types
from edgeq.quantize.ggml.types import TYPES
from edgeq.quantize.ggml.words import GgufMix, GgufType
from edgeq.quantize.presets import Preset
from edgeq.quantize.spec import Intent, Rule
from edgeq.quantize.storage import preset

WREN = json.loads((Path(__file__).parents[3] / "recipes" / "wren" / "config.json").read_text())
TASK = "text-generation"
EMBEDDING = "model.embed_tokens.weight"
QUERY = "model.layers.3.self_attn.q_proj.weight"


def decided(
    word: Preset, *rules: Rule, hidden: int = 256, heads: int = 4
) -> dict[str, GgufDecision]:
    config = {**WREN, "hidden_size": hidden, "num_attention_heads": heads}
    tensors = decoder_of(config, "config.json").tensors()
    intent = Intent(preset(word, "gguf", TASK), "gguf", TASK, rules)
    return decide_gguf(tensors, gguf_names(config, tensors), mix_facts(config), intent)


@pytest.mark.parametrize("mix", ["Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_S", "IQ4_XS"])
def test_a_mix_is_llama_cpps_choice(mix: Preset) -> None:
    found = decided(mix)
    tensors = decoder_of(WREN, "config.json").tensors()
    names = gguf_names(WREN, tensors)
    stored = [(names[name], shape) for name, shape in tensors.items()]
    wanted = mix_types(mix, stored, mix_facts(WREN), has_importance=True)
    assert {names[name]: each.type for name, each in found.items()} == wanted
    rounded = {each.method for name, each in found.items() if len(tensors[name]) > 1}
    assert rounded == {"importance"}
    assert not any(each.has_own_codes for each in found.values())


def test_codes_of_ours_are_stored_in_types_with_the_same_bits() -> None:
    for word, type in (("int4", "Q4_0"), ("int8", "Q8_0")):
        found = decided(word)
        assert found[QUERY].has_own_codes and found[QUERY].type.name == type
        assert found["model.norm.weight"].type.name == "F32"


MIXTURE = {
    **{"model_type": "qwen3_moe", "vocab_size": 300, "hidden_size": 256, "head_dim": 64},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2},
    **{"intermediate_size": 256, "max_position_embeddings": 128, "rms_norm_eps": 1e-6},
    **{"num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 256},
    **{"norm_topk_prob": True, "hidden_act": "silu"},
}


def of_mixture(word: Preset, *rules: Rule) -> dict[str, GgufDecision]:
    tensors = decoder_of(MIXTURE, "config.json").tensors()
    intent = Intent(preset(word, "gguf", TASK), "gguf", TASK, rules)
    return decide_gguf(tensors, gguf_names(MIXTURE, tensors), mix_facts(MIXTURE), intent)


def test_experts_of_a_layer_have_one_type() -> None:
    some, every = (f"*.experts.{which}.*" for which in ("3", "*"))
    with pytest.raises(InvalidInput, match="another expert of its layer Q4_0") as refused:
        of_mixture("int4", Rule(match=some, use="int8-b32"))
    assert "'*.experts.*'" in refused.value.problems[0].remedy
    found = of_mixture("int4", Rule(match=every, use="int8-b32"))
    types = {name: each.type.name for name, each in found.items() if ".experts." in name}
    assert len(types) == 2 * 16 * 3 and set(types.values()) == {"Q8_0"}


def test_a_router_stays_in_floats() -> None:
    for word in ("int4", "int8", "Q4_K_M"):
        found = of_mixture(word)
        routers = [found[name].type.name for name in found if name.endswith("mlp.gate.weight")]
        assert routers == ["F32", "F32"]


def test_a_rule_overrides_any_tensor_and_the_first_wins() -> None:
    rules = (
        Rule(match="*.layers.3.*", use="Q8_0"),
        Rule(match="*.q_proj.weight", use="IQ4_NL"),
        Rule(match=EMBEDDING, use="float32"),
        Rule(match="*norm*", use="Q8_0"),
    )
    for word in ("Q4_K_M", "int4"):
        found = decided(word, *rules)
        assert found[QUERY].type.name == "Q8_0" and found[QUERY].reason == "rule 1: *.layers.3.*"
        assert found[QUERY.replace("3", "2")].type.name == "IQ4_NL"
        assert found[EMBEDDING].type.name == "F32" and not found[EMBEDDING].has_own_codes
        assert found["model.norm.weight"].type.name == "F32"  # norms are never quantized


def test_a_rule_can_mix_codes_of_ours_into_a_mix() -> None:
    found = decided("Q4_K_M", Rule(match=EMBEDDING, use="int8-b32"))
    assert found[EMBEDDING].has_own_codes and found[EMBEDDING].type.name == "Q8_0"
    assert found[QUERY].type.name == "Q4_K"


def test_rows_that_do_not_divide_are_told() -> None:
    narrow = decided("Q4_K_M", hidden=96, heads=2)[QUERY]
    assert narrow.type.name == "Q5_0"  # blocks of 32 where 256 does not divide
    odd = decided("int4", hidden=72, heads=2)[QUERY]
    assert odd.type.name == "F16" and "blocks of 32" in odd.reason
    ruled = decided("int4", Rule(match=QUERY, use="Q6_K"), hidden=96, heads=2)[QUERY]
    assert ruled.type.name == "Q8_0" and "rows of 96" in ruled.reason


def test_the_words_of_recipes_are_known_to_the_format() -> None:
    assert set(get_args(GgufType)) <= set(TYPES)
    assert set(get_args(GgufMix)) <= set(MIXES)
    assert {"F16", "BF16", "Q8_0", "Q4_K_M", "IQ4_XS"} <= set(get_args(GgufMix))
