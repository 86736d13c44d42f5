"""Estimated memory against memory passes of models made here, and what must always hold of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeq.core.artifact import read_record
from edgeq.core.kv_cache import KvType
from edgeq.core.units import MIB
from edgeq.estimate.contents import Contents, contents_of_artifact
from edgeq.estimate.memory import MemoryEstimate, estimate_memory, gguf_cache_bytes
from edgeq.estimate.sizes import sizes_of_config, sizes_of_shapes
from edgeq.estimate.variants import variants
from edgeq.pipeline.plan.contents import contents_of_plan
from edgeq.pipeline.plan.plan import make_plan
from edgeq.places.process import Request, run_worker
from edgeq.recipe.budgets import Workload
from tests.conftest import Project

ROOT = Path(__file__).parents[2]
WREN = ROOT / "recipes" / "wren"
LLAMA_8B = {
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
QWEN3_NEXT_80B = {
    "model_type": "qwen3_next",
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "max_position_embeddings": 262144,
    "moe_intermediate_size": 512,
    "num_attention_heads": 16,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "shared_expert_intermediate_size": 512,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
}

LFM2_1B = {
    "model_type": "lfm2",
    **{"block_ff_dim": 12288, "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256},
    **{"block_auto_adjust_ff_dim": True, "block_use_swiglu": True, "block_norm_eps": 1e-5},
    **{"block_dim": 2048, "conv_dim": 2048, "conv_dim_out": 2048, "conv_L_cache": 3},
    **{"conv_bias": False, "full_attn_idxs": [2, 5, 8, 10, 12, 14], "hidden_size": 2048},
    **{"num_attention_heads": 32, "num_heads": 32, "num_hidden_layers": 16},
    **{"num_key_value_heads": 8, "norm_eps": 1e-5, "max_position_embeddings": 128000},
    **{"rope_theta": 1e6, "use_pos_enc": True, "vocab_size": 65536},
}


def check(told: MemoryEstimate, artifact: Path, workload: Workload | None) -> None:
    """Hold an estimate against a memory pass, as budgets count: within 5 % or 20 MiB."""
    seen = run_worker(Request(work="memory", artifact=artifact, threads=2, workload=workload))
    footprint = max(seen["anonymous_peak_bytes"], seen["with_tokenizer"]["anonymous_bytes"])
    for interval, bytes_ in ((told.peak, seen["high_water_bytes"]), (told.footprint, footprint)):
        assert abs(interval.value - bytes_) <= max(20 * MIB, 0.05 * bytes_)
        assert interval.low <= bytes_ <= interval.high


@pytest.fixture(scope="module")
def random_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of 20 M random weights, a third of them in a table used twice."""
    pytest.importorskip("torch", reason="random models are made with torch")
    from tests.support import tiny_decoders

    return tiny_decoders.make(
        tmp_path_factory.mktemp("models") / "random",
        "qwen2",
        hidden_size=512,
        intermediate_size=1280,
        num_hidden_layers=5,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        vocab_size=12000,
        max_position_embeddings=2048,
    )


@pytest.mark.parametrize(("type_name", "kv"), [("F32", None), ("Q8_0", None), ("Q8_0", "q4_0")])
def test_a_random_decoder_in_gguf(
    random_decoder: Path, tmp_path: Path, type_name: str, kv: KvType | None
) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from tests.support.gguf_artifacts import gguf_artifact

    folder = gguf_artifact(random_decoder, tmp_path / "made", type_name, kv)
    contents = known_contents(random_decoder, type_name, folder)
    work = Workload(context=1536, prompt=64, generate=16)
    check(estimate_memory(contents, context=1536), folder, work)


@pytest.mark.parametrize("number_format", [None, "int4-b32"])
def test_a_random_decoder_in_onnx(
    random_decoder: Path, tmp_path: Path, number_format: str | None
) -> None:
    pytest.importorskip("onnx", reason="graphs are written with onnx")
    from tests.support.decoder_artifacts import decoder_artifact, float_graph, nearest_codes

    graph = float_graph(random_decoder, tmp_path / "graph")
    codes = nearest_codes(graph, number_format) if number_format else None
    folder = decoder_artifact(random_decoder, graph, tmp_path / "made", codes)
    config = json.loads((random_decoder / "config.json").read_text())
    contents = contents_of_artifact(read_record(folder), sizes_of_config(config, "config.json"))
    work = Workload(context=1536, prompt=64, generate=16)
    check(estimate_memory(contents, context=1536), folder, work)


def known_contents(source: Path, type_name: str, folder: Path) -> Contents:
    """What a GGUF artifact of the tests holds; its record names no weights."""
    from dataclasses import replace

    from edgeq.estimate.contents import Weight
    from edgeq.formats.gguf.header import read_header

    sizes = sizes_of_config(json.loads((source / "config.json").read_text()), "config.json")
    types = {tensor.type.name for tensor in read_header(folder / "model.gguf").tensors.values()}
    number_format = type_name if type_name in types else "F32"
    weights = {name: Weight(shape, number_format, 0) for name, shape in sizes.shapes.items()}
    found = contents_of_artifact(read_record(folder), sizes)
    tokenizer = (source / "tokenizer.json").stat().st_size
    return replace(found, weights=weights, tokenizer_bytes=tokenizer)


def test_a_small_encoder(project: Project) -> None:
    folder = Path(project.artifacts["onnx-int8-dynamic"]["path"])
    check(estimate_memory(contents_of_artifact(read_record(folder))), folder, None)


@pytest.mark.parametrize("model", ["convolutional", "lstm"])
def test_a_net_whose_operators_nobody_told(tmp_path: Path, model: str) -> None:
    onnx = pytest.importorskip("onnx", reason="nets are written with onnx")
    from edgeq.core.artifact import Artifact, ModelRecord, ValueInfo, record_files, write_artifact
    from tests.support import onnx_models

    path = getattr(onnx_models, model)(tmp_path / "model.onnx")
    graph = onnx.load(path).graph

    def info(value: Any) -> ValueInfo:
        dimensions = value.type.tensor_type.shape.dim
        shape = tuple(d.dim_param or d.dim_value for d in dimensions)
        return ValueInfo(name=value.name, dtype="float32", shape=shape)

    artifact = Artifact(
        name="onnx-net",
        format="onnx",
        variant="float32",
        task="tensor",
        model=ModelRecord(source="net", sha256="0" * 64),
        inputs=tuple(map(info, graph.input)),
        outputs=tuple(map(info, graph.output)),
        weight_bytes=path.stat().st_size,
        tensors={},
        files=record_files(tmp_path, ["model.onnx"]),
        tools={},
    )
    write_artifact(tmp_path, artifact)
    check(estimate_memory(contents_of_artifact(artifact)), tmp_path, None)


def test_a_plan_and_its_artifact_are_estimated_alike() -> None:
    planned = make_plan(ROOT / "recipes" / "wren.yaml")
    recipe = planned.recipe
    for artifact in planned.plan.artifacts:
        contents = contents_of_plan(artifact, recipe.model.task, planned.model)
        assert contents.sizes is not None
        assert contents.weight_bytes == artifact.weight_bytes
        told = estimate_memory(contents, context=recipe.workload.context)
        assert told.footprint.value < told.peak.value
        assert sum(told.parts.values()) == pytest.approx(told.peak.value)
        by_shapes = sizes_of_shapes(
            {tensor.name: tensor.shape for tensor in artifact.tensors},
            is_decoder=True,
            longest=contents.sizes.longest,
        )
        assert by_shapes is not None
        for fact in ("hidden", "wide", "query", "key", "heads", "tied", "vocabulary"):
            assert getattr(by_shapes, fact) == getattr(contents.sizes, fact)


def test_more_context_and_more_bits_take_more_memory() -> None:
    sizes = sizes_of_config(LLAMA_8B, "config.json")
    for contents in variants(sizes, LLAMA_8B, ("gguf", "onnx"), 0, "text-generation"):
        peaks = [estimate_memory(contents, context=n).peak.value for n in (512, 4096, 32768)]
        assert peaks == sorted(peaks)
    made = {c.label: c for c in variants(sizes, LLAMA_8B, ("gguf",), 0, "text-generation")}
    order = ("Q2_K", "Q4_K_M", "Q8_0", "F16")
    values = [estimate_memory(made[label]).peak.value for label in order]
    assert values == sorted(values)
    # 2 · layers · heads · width · bytes: 16 GiB of keys and values at 131,072 positions in float16.
    assert gguf_cache_bytes(sizes, 131072, 2) == 2**34


def test_a_device_that_nobody_measured_on_gets_a_wider_interval() -> None:
    sizes = sizes_of_config(LLAMA_8B, "config.json")
    contents = next(iter(variants(sizes, LLAMA_8B, ("gguf",), 0, "text-generation")))
    near, far = (estimate_memory(contents, measured_here=here).peak for here in (True, False))
    assert near.value == far.value
    assert far.low < near.low < near.value < near.high < far.high


def test_eighty_billion_parameters_from_a_config_alone() -> None:
    sizes = sizes_of_config(QWEN3_NEXT_80B, "config.json")
    assert 2 * sizes.parameters == pytest.approx(159.4e9, rel=1e-3)
    # Its name says that 3 billion of them take part in a token.
    assert 2.5e9 < sizes.active_parameters < 4e9
    for contents in variants(sizes, QWEN3_NEXT_80B, ("gguf", "onnx"), 0, "text-generation"):
        assert contents.bytes_per_token < 0.06 * contents.weight_bytes
        assert estimate_memory(contents, context=8192).peak.value > contents.weight_bytes / 2
    # 12 layers of 48 keep keys and values of two heads, the others a state.
    assert sizes.cache_bytes(1 << 18, 2) - sizes.state == 12 * 2 * 512 * 2 * (1 << 18)


def test_convolutions_have_no_cache() -> None:
    """LFM2-1.2B, from its config.json alone: ten of its sixteen layers keep two positions."""
    sizes = sizes_of_config(LFM2_1B, "config.json")
    assert sizes.parameters == 1_170_340_608
    assert sizes.state == 10 * 2 * 2048 * 4
    for cache in (sizes.cache_bytes(4096, 2), gguf_cache_bytes(sizes, 4096, 2)):
        assert cache - sizes.state == 6 * 2 * 8 * 64 * 2 * 4096


def test_windows_bound_the_cache() -> None:
    config = {**LLAMA_8B, "model_type": "mistral", "sliding_window": 1024}
    windowed, whole = (sizes_of_config(c, "config.json") for c in (config, LLAMA_8B))
    assert windowed.cache_bytes(8192, 2) == whole.cache_bytes(1024, 2)
    assert whole.cache_bytes(1024, 2) < gguf_cache_bytes(windowed, 8192, 2)
    assert gguf_cache_bytes(windowed, 8192, 2) < gguf_cache_bytes(whole, 8192, 2)
