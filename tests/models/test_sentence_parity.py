"""What an app gets from a built encoder is what sentence-transformers computes from its directory.

The directories are saved by that library itself; none of edgeq's readers is the oracle.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
pytest.importorskip("optimum", reason="the build side is not installed")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import Tokenizer
from transformers import BertModel, PreTrainedTokenizerFast

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
from edgeq.models.huggingface import read_directory
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


def dense(width: int, activation: Any, **settings: Any) -> Any:
    torch.manual_seed(1)
    return modules.Dense(WIDTH, width, activation_function=activation, **settings)


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
}


@pytest.mark.parametrize("pooling", HEADS)
def test_vectors_are_those_of_the_library(network: Path, tmp_path: Path, pooling: str) -> None:
    head = HEADS[pooling]()
    behind, text = head.pop("behind", []), head.pop("text", {})
    directory = save(network, tmp_path / "model", pooling, *behind, text=text, **head)
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


REFUSED: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "two poolings": (lambda: [modules.Pooling(WIDTH, ("mean", "max"))], "mean, max"),
    "prompt left out": (lambda: [modules.Pooling(WIDTH, "mean", include_prompt=False)], "prompt"),
    "layer norm": (lambda: [modules.Pooling(WIDTH), modules.LayerNorm(WIDTH)], "LayerNorm"),
    "activation": (lambda: [modules.Pooling(WIDTH), dense(8, torch.nn.GELU())], "GELU"),
    "order": (
        lambda: [modules.Pooling(WIDTH), modules.Normalize(), dense(8, torch.nn.Tanh())],
        "Dense after Normalize",
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
