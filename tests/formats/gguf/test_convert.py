"""Weights, codes and numbers of a model as llama.cpp wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.convert import read_rows, reorder_codes, row_order
from edgeq.formats.gguf.hyperparameters import decoder_hyperparameters, encoder_hyperparameters
from edgeq.formats.gguf.names import (
    architecture_of,
    gguf_name,
    gguf_names,
    hugging_face_name,
    mix_facts,
)
from edgeq.models.architectures import FAMILIES, Decoder, decoder_of
from edgeq.models.architectures.experts import of_all_experts
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.sentence_head import Normalize, SentenceHead
from edgeq.models.weights import Weights
from edgeq.quantize.ggml.blocks import STORED_AS, pack_codes
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.number_formats.integers import INT4_B32, INT8, INT8_B32
from tests.support import tiny_decoders
from tests.support.properties import examples

BERT = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 32,
    "vocab_size": 100,
}
BERT_LAYER = [
    *(f"attention.self.{name}" for name in ("query", "key", "value")),
    *("attention.output.dense", "attention.output.LayerNorm"),
    *("intermediate.dense", "output.dense", "output.LayerNorm"),
]


def config_of(family: str, **changes: Any) -> dict[str, Any]:
    """config.json of a tiny model, without making its weights."""
    found: dict[str, Any] = tiny_decoders.configuration(family, **changes).to_dict()
    return found


def decoder(family: str, **changes: Any) -> Decoder:
    return decoder_of(config_of(family, **changes), "config.json")


@pytest.mark.parametrize("family", tiny_decoders.FAMILIES)
def test_names_are_those_of_the_gguf_package_and_turn_back(family: str) -> None:
    config = config_of(family)
    model_type = config["model_type"]
    names = {
        (shared[0] if (shared := of_all_experts(name)) else name): stored
        for name, stored in gguf_names(config, decoder(family).tensors()).items()
    }
    assert len(set(names.values())) == len(names)
    architecture = next(
        arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture_of(model_type)
    )
    known = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    renamed = {
        own: parts[0] for own, parts in FAMILIES[model_type].stacked.items() if not parts[1:]
    }
    for name, stored in names.items():
        endings = ((name.removesuffix(f".{w}"), own) for own, w in renamed.items())
        in_file = next((f"{stem}.{own}" for stem, own in endings if stem != name), name)
        found = {
            known.get_name(each, try_suffixes=(".weight", ".bias")) for each in (name, in_file)
        }
        assert found & {stored, stored.removesuffix(".weight")}  # llama.cpp adds it to sinks
        assert hugging_face_name(model_type, stored) == name


def test_names_of_bert_are_those_of_the_gguf_package_and_turn_back() -> None:
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 2)
    names = [
        *(f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")),
        *(f"embeddings.LayerNorm.{kind}" for kind in ("weight", "bias")),
        *(f"encoder.layer.1.{module}.{k}" for module in BERT_LAYER for k in ("weight", "bias")),
    ]
    for name in names:
        stored = gguf_name("bert", name)
        assert known.get_name(name, try_suffixes=(".weight", ".bias")) == stored
        assert gguf_name("bert", f"bert.{name}") == stored
        assert hugging_face_name("bert", stored) == name


def test_names_of_no_weight_are_refused() -> None:
    assert hugging_face_name("llama", "rope_freqs.weight") is None
    for name in ("model.layers.0.mlp.experts.weight", "model.norm.scale", "pooler.dense.weight"):
        with pytest.raises(InvalidInput, match="not a weight of a llama model"):
            gguf_name("llama", name)


def test_facts_for_mixes() -> None:
    facts = mix_facts(config_of("gemma3_text"))
    assert (facts.architecture, facts.layers, facts.heads, facts.kv_heads) == ("gemma3", 7, 4, 2)
    assert mix_facts(BERT).heads == mix_facts(BERT).kv_heads == 4


def test_queries_and_keys_of_llama_go_from_halves_to_pairs() -> None:
    model = decoder("llama", head_dim=8)
    order = row_order(model, "model.layers.0.self_attn.k_proj.weight")
    assert order is not None
    assert order.tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    query = row_order(model, "model.layers.0.self_attn.q_proj.bias")
    assert query is not None and sorted(query.tolist()) == list(range(32))
    for name in ("self_attn.v_proj.weight", "self_attn.o_proj.weight", "mlp.up_proj.weight"):
        assert row_order(model, f"model.layers.0.{name}") is None
    assert row_order(decoder("qwen3"), "model.layers.0.self_attn.q_proj.weight") is None
    assert row_order(None, "encoder.layer.0.attention.self.query.weight") is None


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Weights, Decoder]]:
    found = {}
    for family, changes in (("llama", {"attention_bias": True}), ("gemma2", {})):
        folder = tmp_path_factory.mktemp(family)
        tiny_decoders.make(folder, family, **changes)
        weights = Weights([folder / "model.safetensors"])
        found[family] = (weights, decoder(family, **changes))
    return found


@examples(60)
@given(data=st.data())
def test_any_span_of_rows_is_that_of_the_whole(
    tiny: dict[str, tuple[Weights, Decoder]], data: st.DataObject
) -> None:
    """Read in pieces of any size, a weight is what it is read at once and then transformed."""
    weights, model = tiny[data.draw(st.sampled_from(sorted(tiny)))]
    name = data.draw(st.sampled_from(sorted(model.tensors())))
    whole = weights.read(name)
    order = row_order(model, name)
    if order is not None:
        whole = whole[order]
    if model.family == "gemma2" and "norm" in name:
        whole = whole + np.float32(1)
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole)))
    found = read_rows(weights, model, name)(start, stop)
    assert found.dtype == np.float32
    assert np.array_equal(found, whole[start:stop])


@st.composite
def quantized(draw: st.DrawFn) -> QuantizedTensor:
    """Any codes of the format, its extremes among them, under any scales float16 can hold."""
    number_format = draw(st.sampled_from([INT4_B32, INT8_B32]))
    rows, blocks = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = rng.integers(
        number_format.lowest, number_format.highest, (rows, 32 * blocks), endpoint=True
    )
    scales = number_format.storable(
        rng.standard_normal((rows, blocks)) * draw(st.floats(1e-6, 1e3))
    )
    return QuantizedTensor(number_format, codes.astype(np.int8), scales, "nearest")


@examples(100)
@given(tensor=quantized())
def test_packed_codes_are_read_by_the_gguf_package_to_the_bit(tensor: QuantizedTensor) -> None:
    type = STORED_AS[tensor.number_format.name]
    packed = pack_codes(tensor)
    assert packed.nbytes == tensor.nbytes
    found = gguf.dequantize(packed, gguf.GGMLQuantizationType[type.name])
    assert np.array_equal(found, tensor.dequantize())


@examples(30)
@given(tensor=quantized(), seed=st.integers(0, 1000))
def test_codes_move_with_their_scales(tensor: QuantizedTensor, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(tensor.codes))
    moved = reorder_codes(tensor, order)
    assert np.array_equal(moved.dequantize(), tensor.dequantize()[order])
    assert np.array_equal(reorder_codes(tensor, None).dequantize(), tensor.dequantize())
    blocks = np.random.default_rng(seed).permutation(tensor.scales.shape[1])
    columns = (blocks[:, None] * 32 + np.arange(32)).reshape(-1)
    moved = reorder_codes(tensor, order, columns)
    assert np.array_equal(moved.dequantize(), tensor.dequantize()[order][:, columns])


def test_rows_of_no_whole_blocks_and_other_number_format_are_not_packed() -> None:
    short = QuantizedTensor(
        INT4_B32, np.zeros((2, 40), np.int8), np.ones((2, 2), np.float32), "nearest"
    )
    rows = QuantizedTensor(INT8, np.zeros((2, 32), np.int8), np.ones((2, 1), np.float32), "nearest")
    for tensor in (short, rows):
        with pytest.raises(ValueError, match="do not fit into GGUF blocks"):
            pack_codes(tensor)


def test_llama3_divides_its_frequencies_as_transformers_does() -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = tiny_decoders.configuration("llama3")
    wanted, _ = ROPE_INIT_FUNCTIONS["llama3"](config, None)
    plain = 1 / config.rope_theta ** (np.arange(0, 64, 2) / 64)
    found = decoder_hyperparameters(decoder("llama3"), "x")
    factors = found.extra["rope_freqs.weight"]
    assert np.allclose(plain / factors, wanted.numpy(), rtol=1e-5)
    assert factors.min() == 1 and factors.max() == pytest.approx(8)


def test_longrope_is_scaled_as_in_transformers() -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = tiny_decoders.configuration("phi3-longrope")
    _, factor = ROPE_INIT_FUNCTIONS["longrope"](config, None)
    found = decoder_hyperparameters(decoder("phi3-longrope"), "x")
    assert found.metadata["rope.scaling.attn_factor"].value == pytest.approx(factor)
    assert set(found.extra) == {"rope_factors_long.weight", "rope_factors_short.weight"}


@pytest.mark.parametrize(
    ("family", "changes", "what"),
    [
        ("qwen3", {"attention_bias": True}, "biases"),
        ("qwen3_moe", {"norm_topk_prob": False}, "do not add up to one"),
        ("qwen3_moe", {"mlp_only_layers": [1]}, "only some of its layers have experts"),
        ("llama", {"hidden_act": "gelu_pytorch_tanh"}, "activation is gelu_tanh"),
        ("qwen2", {"rope_scaling": dict(tiny_decoders.LLAMA3_ROPE)}, "only for llama"),
        ("qwen2", {"head_dim": 32}, "4 heads of 32 are not 256"),
        ("olmo2", {"head_dim": 32}, "4 heads of 32 are not 256"),
        ("gemma2", {"query_pre_attn_scalar": 100}, "query_pre_attn_scalar is 100, not 32"),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 1, 1]}, "layers without positions"),
        (
            "olmo3",
            {"layer_types": ["full_attention"] + ["sliding_attention"] * 4},
            "regularly spaced",
        ),
        ("gemma2", {"final_logit_softcapping": None}, "does not cap logits"),
        ("lfm2", {"conv_bias": True}, "convolutions have biases"),
        (
            "gpt_oss",
            {"rope_scaling": {**tiny_decoders.YARN, "truncate": False}},
            "other bounds than .* rounded",
        ),
        ("gemma2", {"tie_word_embeddings": False}, "output weights"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "caps attention logits"),
        (
            "gemma3_text",
            {"layer_types": ["full_attention"] + ["sliding_attention"] * 6},
            "regularly spaced",
        ),
    ],
)
def test_what_llama_cpp_would_run_otherwise_is_refused(
    family: str, changes: dict[str, Any], what: str
) -> None:
    config = config_of(family, **changes)
    with pytest.raises(InvalidInput, match=what):
        decoder_hyperparameters(decoder_of(config, "config.json"), "config.json")


@pytest.mark.parametrize(
    ("changes", "pooling", "what"),
    [
        ({}, "max", "max pooling"),
        ({"hidden_act": "relu"}, "mean", "relu"),
        ({"position_embedding_type": "relative_key"}, "mean", "relative_key"),
    ],
)
def test_what_llama_cpps_bert_lacks_is_refused(
    changes: dict[str, Any], pooling: Any, what: str
) -> None:
    directory = ModelDirectory(
        path=Path("bert"),
        config={**BERT, **changes},
        tensors={},
        weight_files=(),
        tokenizer=Path("bert/tokenizer.json"),
        head=SentenceHead((pooling,), (Normalize(),)),
        max_tokens=32,
        licence=None,
    )
    with pytest.raises(InvalidInput, match=what):
        encoder_hyperparameters(directory, "bert")
