"""What an app gets from a built encoder is what sentence-transformers computes from its directory.

The directories are saved by that library itself; none of edgeq's readers is the oracle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
pytest.importorskip("optimum", reason="the build side is not installed")

import onnx_ir as ir
import onnxruntime
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import Tokenizer
from transformers import (
    BertModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
)

import edgeq
from edgeq.core.artifact import (
    DATA_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    Artifact,
    ModelRecord,
    record_files,
    write_artifact,
)
from edgeq.core.errors import InvalidInput
from edgeq.formats.onnx.write import copy_float
from edgeq.formats.written import copy_tokenizer, text_settings
from edgeq.models.graphs.float_onnx import export_encoder
from edgeq.models.graphs.pooling import add_head
from edgeq.models.huggingface import read_directory
from edgeq.models.original.encoder import open_encoder
from edgeq.models.original.head import apply_head
from edgeq.models.sentence_head import POOLINGS, Activation, Dense, SentenceHead
from tests.support import tiny_bert

WIDTH = 32
TEXTS = ["ba", "be ci do fu ga", "ba Be CI do", tiny_bert.sentence(1, 60)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of BERT, and a tokenizer that knows lower case only."""
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    config = tiny_bert.config(hidden_size=WIDTH, num_hidden_layers=1, intermediate_size=48)
    BertModel(config).save_pretrained(folder)
    tokenizer = tiny_bert.tokenizer()
    tokenizer.no_padding()
    tokenizer.normalizer = None
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, sep_token="[SEP]", **special)
    fast.save_pretrained(folder)
    return folder


def save(
    network: Path, folder: Path, pooling: Any, *behind: Any, text: dict[str, Any], **settings: Any
) -> Path:
    """A directory of sentence-transformers. text: settings of its Transformer."""
    first = modules.Transformer(str(network), **{"max_seq_length": tiny_bert.LONGEST, **text})
    pool = pooling if isinstance(pooling, torch.nn.Module) else modules.Pooling(WIDTH, pooling)
    SentenceTransformer(modules=[first, pool, *behind], device="cpu", **settings).save(str(folder))
    return folder


def built(directory: Path, folder: Path) -> edgeq.Model:
    """The directory as a float32 artifact, opened as an app does."""
    graph, target = folder / "float", folder / "artifact"
    for each in (graph, target):
        each.mkdir()
    read = read_directory(directory, "test")
    export_encoder(read, graph)
    written = copy_float(graph, target)
    files = copy_tokenizer(read, target, settings=False, max_tokens=read.max_tokens)
    artifact = Artifact(
        name="onnx-float32",
        format="onnx",
        variant="float32",
        task="sentence-embedding",
        model=ModelRecord(source="test", sha256="0" * 64),
        inputs=written.inputs,
        outputs=written.outputs,
        text=text_settings(read),
        dimension=read.dimension,
        weight_bytes=sum(tensor.bytes for tensor in written.tensors.values()),
        tensors=written.tensors,
        files=record_files(target, [MODEL_FILE, DATA_FILE, *files]),
        tools={},
    )
    write_artifact(target, artifact)
    return edgeq.load(target)


def dense(width: int, activation: Any, given: int = WIDTH, **settings: Any) -> Any:
    torch.manual_seed(1)
    return modules.Dense(given, width, activation_function=activation, **settings)


def layer_norm(width: int) -> Any:
    torch.manual_seed(2)
    module = modules.LayerNorm(width)
    torch.nn.init.normal_(module.norm.weight)
    torch.nn.init.normal_(module.norm.bias)
    return module


def ids(directory: Path) -> list[list[int]]:
    """Tokens of every text by the tokenizer that a build writes, opened by `tokenizers` alone."""
    read = read_directory(directory, "test")
    copy_tokenizer(read, directory.parent, settings=False, max_tokens=read.max_tokens)
    tokenizer = Tokenizer.from_file(str(directory.parent / TOKENIZER_FILE))
    return [tokenizer.encode(text).ids for text in TEXTS]


PROMPTS = {"query": "be da: ", "passage": ""}
HEADS: dict[str, Callable[[], dict[str, Any]]] = {
    "mean": lambda: {
        "behind": [modules.Dropout(0.5), modules.Normalize()],
        "prompts": PROMPTS,
        "default_prompt_name": "query",
    },
    "cls": lambda: {"behind": [dense(24, torch.nn.Tanh())], "prompts": PROMPTS},
    "max": lambda: {"behind": [modules.Normalize()], "truncate_dim": 8},
    "lasttoken": lambda: {"text": {"do_lower_case": True}},
    "weightedmean": lambda: {
        "behind": [dense(24, torch.nn.Identity(), bias=False), modules.Normalize()],
        "truncate_dim": 16,
    },
    "mean_sqrt_len_tokens": lambda: {"text": {"max_seq_length": 7}},
    "max mean": lambda: {
        "behind": [
            modules.Normalize(),
            layer_norm(2 * WIDTH),
            dense(24, torch.nn.GELU(), 2 * WIDTH),
        ],
    },
    "lasttoken cls weightedmean": lambda: {"behind": [modules.Normalize()], "prompts": PROMPTS},
}


@pytest.mark.parametrize("pooling", HEADS)
def test_vectors_are_those_of_the_library(network: Path, tmp_path: Path, pooling: str) -> None:
    head = HEADS[pooling]()
    behind, text = head.pop("behind", []), head.pop("text", {})
    names = tuple(pooling.split())
    directory = save(network, tmp_path / "model", names, *behind, text=text, **head)
    library = SentenceTransformer(str(directory), device="cpu")
    assert library.truncate_dim == head.get("truncate_dim")
    model = built(directory, tmp_path)
    for prompt in (None, *library.prompts):
        # One by one: padding must not decide.
        wanted = np.concatenate(
            [library.encode([each], prompt_name=prompt, batch_size=1) for each in TEXTS]
        )
        found = model.embed(TEXTS, prompt_name=prompt)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def compare(directory: Path, model: edgeq.Model) -> None:
    """Vectors of texts after the default prompt, one by one: padding must not decide."""
    library = SentenceTransformer(str(directory), device="cpu")
    wanted = np.concatenate([library.encode([each], batch_size=1) for each in TEXTS])
    np.testing.assert_allclose(model.embed(TEXTS), wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_default_prompt_is_left_out_of_every_pooling(network: Path, tmp_path: Path) -> None:
    pooling = modules.Pooling(WIDTH, POOLINGS, include_prompt=False)
    settings = {"prompts": PROMPTS, "default_prompt_name": "query"}
    directory = save(network, tmp_path / "model", pooling, text={}, **settings)
    assert read_directory(directory, "test").head.skipped > 3
    model = built(directory, tmp_path)
    compare(directory, model)
    with pytest.raises(InvalidInput, match="built for its own"):
        model.embed(TEXTS, prompt="fu: ")
    with pytest.raises(InvalidInput, match="'passage' is not a prompt"):
        model.embed(TEXTS, prompt_name="passage")


def test_without_a_default_prompt_what_to_write_is_said(network: Path, tmp_path: Path) -> None:
    pooling = modules.Pooling(WIDTH, "mean", include_prompt=False)
    directory = save(network, tmp_path / "model", pooling, text={}, prompts=PROMPTS)
    with pytest.raises(InvalidInput, match="leaves out the prompt") as caught:
        read_directory(directory, "test")
    assert '"default_prompt_name": "query"' in caught.value.problems[0].remedy


@pytest.mark.parametrize("has_layers", [True, False])
def test_layers_are_mixed_if_the_network_gives_them(
    network: Path, tmp_path: Path, has_layers: bool
) -> None:
    text = modules.Transformer(str(network), config_kwargs={"output_hidden_states": has_layers})
    weights = torch.nn.Parameter(torch.tensor([0.3, 1.9]))
    mixed = modules.WeightedLayerPooling(WIDTH, 1, 0, layer_weights=weights)
    parts = [text, mixed, modules.Pooling(WIDTH, "mean")]
    directory = tmp_path / "model"
    SentenceTransformer(modules=parts, device="cpu").save(str(directory))
    assert (read_directory(directory, "test").head.mix is not None) == has_layers
    compare(directory, built(directory, tmp_path))


class ReLU(torch.nn.Module):
    """Not torch's: without trust the library takes the hyperbolic tangent instead."""


@pytest.mark.parametrize("name", get_args(Activation))
def test_an_activation_is_torch_s(name: Activation, tmp_path: Path) -> None:
    """In the graph and in the second implementation, on values large and small."""
    layer = dense(WIDTH, getattr(torch.nn, name)())
    layer.save(str(tmp_path))
    values = torch.linspace(-30, 30, 8 * WIDTH).reshape(8, WIDTH)
    wanted = layer({"sentence_embedding": values})["sentence_embedding"].detach().numpy()
    step = Dense("dense", tmp_path / "model.safetensors", WIDTH, bias=True, activation=name)
    head = SentenceHead(("cls",), (step,))
    tokens, mask = values.numpy()[:, None], np.ones((8, 1), np.int64)
    for found in (apply_head(tokens, mask, head), in_graph(tokens, mask, head)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def in_graph(tokens: np.ndarray, mask: np.ndarray, head: SentenceHead) -> np.ndarray:
    names = {"tokens": ir.DataType.FLOAT, "attention_mask": ir.DataType.INT64}
    given = [
        ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(array.shape))
        for (name, kind), array in zip(names.items(), (tokens, mask), strict=True)
    ]
    same = ir.node("Identity", [given[0]])
    graph = ir.Graph(given, same.outputs, nodes=[same], opset_imports={"": 17})
    model = ir.Model(graph, ir_version=9)
    add_head(model, head, tokens.shape[-1])
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (found,) = session.run(None, dict(zip(names, (tokens, mask), strict=True)))
    return np.asarray(found)


REFUSED: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "activation": (lambda: [modules.Pooling(WIDTH), dense(8, torch.nn.Hardtanh())], "Hardtanh"),
    "own code": (lambda: [modules.Pooling(WIDTH), dense(8, ReLU())], r"Dense with \S+\.ReLU"),
    "order": (
        lambda: [modules.Pooling(WIDTH), modules.WeightedLayerPooling(WIDTH), modules.Normalize()],
        "WeightedLayerPooling after Transformer, Pooling",
    ),
}


@pytest.mark.parametrize("head", REFUSED)
def test_a_head_that_is_not_built_is_refused_by_name(
    network: Path, tmp_path: Path, head: str
) -> None:
    make, words = REFUSED[head]
    first, *behind = make()
    directory = save(network, tmp_path / "model", first, *behind, text={})
    with pytest.raises(InvalidInput, match=words) as caught:
        read_directory(directory, "test")
    assert caught.value.problems[0].remedy


FILES = ("tokenizer_config.json", "sentence_bert_config.json")
LIMITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "from the left": ({"truncation_side": "left"}, {}),
    "from the right": ({"truncation_side": "right"}, {}),
    "by the tokenizer": ({"model_max_length": 9}, {"max_seq_length": None}),
    "by both": ({"model_max_length": 9}, {"max_seq_length": 7}),
    "lower case": ({}, {"do_lower_case": True}),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_texts_are_cut_where_the_library_cuts_them(
    network: Path, tmp_path: Path, limit: str
) -> None:
    directory = save(network, tmp_path / "model", "mean", text={"max_seq_length": 12})
    for name, changes in zip(FILES, LIMITS[limit], strict=True):
        path = directory / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    library = SentenceTransformer(str(directory), device="cpu")
    wanted = [library.tokenize([text])["input_ids"][0].tolist() for text in TEXTS]
    assert ids(directory) == wanted


def test_inputs_that_the_network_does_not_take_are_named_with_the_setting_that_drops_them(
    network: Path, tmp_path: Path
) -> None:
    settings = ModernBertConfig(
        **{"vocab_size": 64, "hidden_size": WIDTH, "intermediate_size": 48},
        **{"num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 0},
    )
    modern = tmp_path / "modern"
    shutil.copytree(network, modern)
    ModernBertModel(settings).save_pretrained(modern)
    directory = save(modern, tmp_path / "model", "mean", text={})
    path = directory / "tokenizer_config.json"
    kept = json.loads(path.read_text())
    kept.pop("model_input_names", None)
    path.write_text(json.dumps(kept))
    with pytest.raises(InvalidInput, match=r"cannot run it: .*'token_type_ids'") as caught:
        open_encoder(read_directory(directory, "test")).answer("ba be")
    remedy = caught.value.problems[0].remedy
    assert remedy == (
        'add "model_input_names": ["input_ids", "attention_mask"] to its tokenizer_config.json'
    )
    setting = json.loads("{" + remedy.removeprefix("add ").partition(" to its")[0] + "}")
    path.write_text(json.dumps({**kept, **setting}))
    wanted = SentenceTransformer(str(directory), device="cpu").encode(["ba be"])
    found = open_encoder(read_directory(directory, "test")).answer("ba be")
    np.testing.assert_array_equal(found, wanted)
