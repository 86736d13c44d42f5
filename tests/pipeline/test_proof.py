"""A wrong reading of a model is found, and said by the weight at which it begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx_ir as ir
from tokenizers import Tokenizer

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import SENTENCE_EMBEDDING, TEXT_GENERATION
from edgeq.models.architectures import decoder_of
from edgeq.models.graphs.decoder_onnx import export_decoder
from edgeq.models.graphs.float_onnx import export_encoder
from edgeq.models.graphs.rewriting import save_model
from edgeq.models.huggingface import ModelDirectory, read_directory
from edgeq.models.original.network import in_words_of_4, open_network
from edgeq.pipeline.proof.prove import TOLERANCE, prove, relative
from edgeq.pipeline.proof.request import ProofRequest
from edgeq.pipeline.proof.samples import decoder_samples, encoder_texts
from tests.support import tiny_bert, tiny_decoders

WORDS = tiny_decoders.TEXT.read_text(encoding="utf-8")[:4000]


def request(directory: Path, graph: Path) -> ProofRequest:
    model = read_directory(directory, str(directory))
    if model.config["model_type"] == "bert":
        texts = encoder_texts([tiny_bert.sentence(1, 12)], model.max_tokens)
        return ProofRequest(directory=directory, graph=graph, texts=texts)
    ids = Tokenizer.from_file(str(model.tokenizer)).encode(WORDS).ids
    switch = model.config.get("original_max_position_embeddings")
    samples = decoder_samples(ids, None, decoder_of(model.config, "config.json"), switch)
    return ProofRequest(directory=directory, graph=graph, windows=samples)


def exported(
    directory: Path, graph: Path, misread: Callable[[dict[str, Any]], None] = lambda config: None
) -> Path:
    """The float graph of a language model whose configuration was misread so."""
    model: ModelDirectory = read_directory(directory, str(directory))
    config = json.loads(json.dumps(model.config))
    misread(config)
    graph.mkdir()
    export_decoder(replace(model, config=config), graph)
    return graph


def changed(graph: Path, folder: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """A float graph with one of its weights changed."""
    model = ir.load(graph / MODEL_FILE)
    weight = model.graph.initializers[name]
    assert weight.const_value is not None
    weight.const_value = ir.tensor(np.ascontiguousarray(change(weight.const_value.numpy())))
    folder.mkdir()
    save_model(model, folder / MODEL_FILE)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("llama")
    directory = tiny_decoders.make(folder / "model", "llama3")
    return directory, exported(directory, folder / "graph")


@pytest.mark.parametrize("family", tiny_decoders.FAMILIES)
def test_every_family_equals_its_original(family: str, tmp_path: Path) -> None:
    directory = tiny_decoders.make(tmp_path / "model", family)
    proof = prove(request(directory, exported(directory, tmp_path / "graph")))
    assert proof.difference is not None and proof.tolerance is not None
    assert 0 < proof.difference <= proof.tolerance < 10 * TOLERANCE
    assert "transformers" in proof.reference and "token by token" in proof.compared


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.update({name: value})


@pytest.mark.parametrize(
    ("misread", "where"),
    [
        (_set("rope_theta", 10000.0), "in the input of model.layers.0.self_attn.o_proj.weight"),
        (_set("rope_scaling", None), "in the input of model.layers.0.self_attn.o_proj.weight"),
        (_set("rms_norm_eps", 0.1), "at model.layers.0.input_layernorm.weight"),
        (_set("hidden_act", "gelu_pytorch_tanh"), "input of model.layers.0.mlp.down_proj.weight"),
    ],
    ids=["rope base", "rope scaling", "epsilon", "activation"],
)
def test_a_setting_that_is_misread_is_named_by_the_place_where_it_acts(
    misread: Callable[[dict[str, Any]], None],
    where: str,
    llama: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(InvalidInput, match="is not the model") as error:
        prove(request(llama[0], exported(llama[0], tmp_path / "graph", misread)))
    assert where in str(error.value)


@pytest.mark.parametrize(
    ("weight", "change"),
    [
        ("model.layers.0.self_attn.q_proj.weight", np.transpose),
        ("model.layers.1.self_attn.o_proj.weight", np.transpose),
        ("model.layers.1.mlp.up_proj.weight", np.negative),
        ("model.embed_tokens.weight", lambda w: np.roll(w, 1, axis=0)),
        ("model.norm.weight", lambda w: w + 1),
        ("lm_head.weight", lambda w: w * np.float32(1.001)),
    ],
)
def test_a_weight_that_is_another_is_named(
    weight: str, change: Callable[[Any], Any], llama: tuple[Path, Path], tmp_path: Path
) -> None:
    directory = tiny_decoders.make(tmp_path / "model", "llama")
    graph = changed(exported(directory, tmp_path / "graph"), tmp_path / "other", weight, change)
    with pytest.raises(InvalidInput, match="is not the model") as error:
        prove(request(directory, graph))
    assert f"at {weight}:" in str(error.value)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("encoder")
    directory = tiny_bert.save_bert(folder / "model")
    graph = folder / "graph"
    graph.mkdir()
    export_encoder(read_directory(directory, "model"), graph)
    return directory, graph


def test_an_encoder_equals_its_original_up_to_texts_that_are_cut(
    encoder: tuple[Path, Path],
) -> None:
    proof = prove(request(*encoder))
    assert proof.difference is not None and proof.difference <= TOLERANCE
    assert f"to {tiny_bert.LONGEST} tokens" in proof.compared


def test_a_transposed_weight_of_an_encoder_is_named(
    encoder: tuple[Path, Path], tmp_path: Path
) -> None:
    name = "encoder.layer.1.attention.self.key.weight"
    graph = changed(encoder[1], tmp_path / "other", name, np.transpose)
    with pytest.raises(InvalidInput, match=f"at {name}:"):
        prove(request(encoder[0], graph))


def test_a_head_that_would_be_left_out_is_refused(tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification(tiny_bert.config())
    directory = tiny_bert.save_bert(tmp_path / "model", model=model)
    with pytest.raises(InvalidInput, match=r"classifier\.\w+, which AutoModel leaves out"):
        open_network(read_directory(directory, "model"), SENTENCE_EMBEDDING)


def test_rotary_settings_of_transformers_5_are_read_by_transformers_4(tmp_path: Path) -> None:
    directory = tiny_decoders.make(tmp_path / "model", "llama3")
    path = directory / "config.json"
    old = json.loads(path.read_text())
    new = {name: old[name] for name in old if name not in ("rope_theta", "rope_scaling")}
    new["rope_parameters"] = {"rope_theta": old["rope_theta"], **old["rope_scaling"]}
    path.write_text(json.dumps(new))
    config = open_network(read_directory(directory, "model"), TEXT_GENERATION).config
    assert config.rope_theta == old["rope_theta"]
    assert config.rope_scaling == old["rope_scaling"]
    assert in_words_of_4(new)["rope_scaling"] == old["rope_scaling"]


def test_a_modernbert_of_transformers_5_is_read_by_transformers_4(tmp_path: Path) -> None:
    old = {"model_type": "modernbert", "num_hidden_layers": 5, "local_attention": 8}
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    ropes = {
        "full_attention": {"rope_theta": 9e4, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 5e3, "rope_type": "default"},
    }
    new = {**old, "layer_types": [*kinds, "sliding_attention"], "rope_parameters": ropes}
    found = in_words_of_4(new)
    assert (found["global_rope_theta"], found["local_rope_theta"]) == (9e4, 5e3)
    assert found["global_attn_every_n_layers"] == 3
    assert "rope_parameters" not in found
    for other in (
        {"layer_types": [*kinds, "full_attention"]},
        {"rope_parameters": {**ropes, "sliding_attention": {"rope_type": "yarn"}}},
    ):
        with pytest.raises(InvalidInput, match="transformers 4 does not have"):
            in_words_of_4({**new, **other})


def test_a_score_near_zero_counts_by_the_size_of_the_others() -> None:
    wanted, found = (np.array([[score]], np.float32) for score in (1e-6, 3e-6))
    assert relative(found, wanted) > 1
    assert relative(found, wanted, least=2.0) == pytest.approx(1e-6, rel=1e-3)
