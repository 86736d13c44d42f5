"""What is read of a model directory, and everything that is refused before a weight is opened."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.huggingface import ModelDirectory, read_directory
from edgeq.models.sentence_head import SentenceHead
from edgeq.models.weight_files import TensorFacts, read_safetensors_header
from tests.support.tiny_bert import tokenizer, write_head

WHERE = "recipe.yaml:3:9"
CONFIG = {"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 32}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["__metadata__", "w", "dtype", "shape", "data_offsets"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


def header(entries: Any) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


def weights(path: Path, tensors: dict[str, tuple[int, ...]], metadata: bool = True) -> Path:
    """A safetensors file of zeros, float32."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}} if metadata else {}
    end = 0
    for name, shape in tensors.items():
        size = 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    path.write_bytes(header(entries) + bytes(end))
    return path


def directory(folder: Path, **changes: Any) -> Path:
    """A small model directory; `changes` go to config.json."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    tokenizer().save(str(folder / "tokenizer.json"))
    weights(folder / "model.safetensors", {"w": (4, 8), "b": (8,)})
    return folder


def refused(folder: Path) -> Problem:
    with pytest.raises(InvalidInput) as error:
        read_directory(folder, WHERE)
    (problem,) = error.value.problems
    return problem


def read(folder: Path) -> ModelDirectory:
    return read_directory(folder, WHERE)


def test_a_directory_is_described(tmp_path: Path) -> None:
    found = read(directory(tmp_path / "m"))
    assert found.tensors == {"w": TensorFacts("F32", (4, 8)), "b": TensorFacts("F32", (8,))}
    assert found.hidden_size == 8
    assert found.max_tokens == 32
    assert found.licence is None
    names = [file.name for file in found.source_files]
    assert names == ["model.safetensors", "config.json", "tokenizer.json"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "tf_model.h5"])
def test_pickled_weights_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    folder = directory(tmp_path)
    (folder / "model.safetensors").rename(folder / name)
    problem = refused(folder)
    assert problem.where == WHERE
    assert name in problem.what
    assert "can run code" in problem.what
    assert "safe_serialization" in problem.remedy


def test_pickled_weights_beside_safetensors_are_left_alone(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert [file.name for file in read(folder).weight_files] == ["model.safetensors"]


def test_code_that_comes_with_a_model_is_refused(tmp_path: Path) -> None:
    problem = refused(directory(tmp_path, auto_map={"AutoModel": "modeling.Model"}))
    assert "auto_map" in problem.what
    assert "never run" in problem.what


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "has no config.json"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("model.safetensors", "has no model.safetensors"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, missing: str, said: str) -> None:
    folder = directory(tmp_path)
    (folder / missing).unlink()
    problem = refused(folder)
    assert said in problem.what
    assert problem.remedy


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\xff", "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "modules.json", "sentence_bert_config.json"])
def test_damaged_json_is_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    folder = directory(tmp_path)
    if name == "sentence_bert_config.json":
        write_head(folder, "mean")
    (folder / name).write_text(text, encoding="latin-1")
    if name == "modules.json" and text == "[]":
        return  # a head without modules: the next test's
    assert name in str(refused(folder))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_heads(tmp_path: Path, pooling: Any, normalize: bool) -> None:
    folder = directory(tmp_path)
    write_head(folder, pooling, normalize=normalize)
    head = read(folder).head
    assert (head.pooling, head.normalize) == (pooling, normalize)


def test_without_modules_the_head_is_the_mean_alone(tmp_path: Path) -> None:
    """As sentence-transformers makes one of a directory that is not its own."""
    assert read(directory(tmp_path)).head == SentenceHead(("mean",))


@pytest.mark.parametrize("module", ["CNN", "LSTM", "WeightedLayerPooling", "Asym"])
def test_other_modules_are_refused_by_name(tmp_path: Path, module: str) -> None:
    folder = directory(tmp_path)
    write_head(folder, "mean", more=(module,))
    problem = refused(folder)
    assert module in problem.what
    assert "lasttoken" in problem.remedy


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({}, "mean"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": ["weightedmean"]}, "weightedmean"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls, mean"),
        ({"pooling_mode": ["mean", "max"]}, "mean, max"),
    ],
)
def test_poolings_are_named_in_old_and_new_words(
    tmp_path: Path, settings: dict[str, Any], pooling: str
) -> None:
    folder = directory(tmp_path)
    write_head(folder, "cls")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    assert read(folder).head.pooling == pooling


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pooling_mode": "median"}, "median"),
        ({"pooling_mode": ["mean", "median"]}, "mean, median"),
        ({"pooling_mode": []}, "of no kind"),
        ({"pooling_mode": "mean", "pooling_mode_new": True}, "pooling_mode_new"),
    ],
)
def test_other_poolings_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    folder = directory(tmp_path)
    write_head(folder, "mean")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    assert said in refused(folder).what


def test_a_head_lies_where_modules_json_says(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    write_head(folder, "cls")
    (folder / "1_Pooling").rename(folder / "pool")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = "pool"
    (folder / "modules.json").write_text(json.dumps(modules))
    found = read(folder)
    assert found.head.pooling == "cls"
    assert folder / "pool" / "config.json" in found.source_files


@pytest.mark.parametrize(
    ("own", "changes", "longest"),
    [
        (None, {}, 32),
        (20, {}, 20),
        (64, {}, 32),
        # Positions of these begin behind the padding token's: fairseq's "padding_idx + 1".
        (None, {"model_type": "roberta", "max_position_embeddings": 34, "pad_token_id": 1}, 32),
        (None, {"model_type": "mpnet", "max_position_embeddings": 34, "pad_token_id": 1}, 32),
    ],
)
def test_max_tokens(tmp_path: Path, own: int | None, changes: dict[str, Any], longest: int) -> None:
    folder = directory(tmp_path, **changes)
    if own is not None:
        write_head(folder, "mean")
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": own}))
    assert read(folder).max_tokens == longest


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ('---\r\nlicense: "mit"\r\n---\r\n', "mit"),
        ("---\nlicense: 'mit'  # as upstream\n---\n", "mit"),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("# A model\nlicense: mit\n", None),
        ("---\nlicense:\n---\n", None),
        ("", None),
    ],
)
def test_the_licence_is_the_model_cards(tmp_path: Path, card: str, licence: str | None) -> None:
    folder = directory(tmp_path)
    (folder / "README.md").write_bytes(card.encode())
    assert read(folder).licence == licence


def sharded(folder: Path) -> Path:
    """A model in two files with an index."""
    directory(folder)
    (folder / "model.safetensors").unlink()
    files = {"w": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    weights(folder / files["w"], {"w": (4, 8)})
    weights(folder / files["b"], {"b": (8,)})
    index = {"metadata": {"total_size": 160}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_sharded_weights_are_read_together(tmp_path: Path) -> None:
    found = read(sharded(tmp_path))
    assert set(found.tensors) == {"w", "b"}
    assert len(found.weight_files) == 2


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in str(refused(folder))


def test_only_the_header_is_read(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    rows = 1 << 19
    size = rows * 1024 * 4  # 2 GiB
    entry = {"dtype": "F32", "shape": [rows, 1024], "data_offsets": [0, size]}
    path = folder / "model.safetensors"
    path.write_bytes(header({"table": entry}))
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size + size)
    tracemalloc.start()
    found = read(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.tensors == {"table": TensorFacts("F32", (rows, 1024))}
    assert peak < 1 << 20


def damaged(path: Path, content: bytes) -> int:
    """Assert that the file is refused by name; bytes allocated meanwhile."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput) as error:
            read_safetensors_header(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.value.problems[0].where == str(path)
    return peak


@given(data=st.data())
def test_a_truncated_file_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = weights(tmp_path_factory.getbasetemp() / "cut.safetensors", {"w": (4, 8), "b": (8,)})
    whole = path.read_bytes()
    kept = data.draw(st.integers(0, len(whole) - 1))
    assert damaged(path, whole[:kept]) < 1 << 20


@given(content=st.binary(max_size=200))
def test_garbage_is_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.safetensors"
    assert damaged(path, content) < 1 << 20


@pytest.mark.parametrize("length", [100 << 20, 1 << 40, (1 << 64) - 1])
def test_a_header_longer_than_the_file_costs_nothing(tmp_path: Path, length: int) -> None:
    content = length.to_bytes(8, "little") + b"{}"
    assert damaged(tmp_path / "long.safetensors", content) < 1 << 20


@given(entries=JSON)
def test_any_json_is_a_header_or_refused(
    entries: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "json.safetensors"
    path.write_bytes(header(entries))
    try:
        found = read_safetensors_header(path)
    except InvalidInput as error:
        assert error.problems[0].where == str(path)
    else:
        for facts in found.values():
            assert isinstance(facts.dtype, str)
            assert all(isinstance(length, int) and length >= 0 for length in facts.shape)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, "16"]},
        {"dtype": "F32", "shape": ["4"], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [8], "data_offsets": [0, 16]},
        {"dtype": 3, "shape": [4], "data_offsets": [0, 16]},
    ],
)
def test_an_entry_that_does_not_fit_is_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    damaged(tmp_path / "entry.safetensors", header({"w": entry}) + bytes(16))
    nested = b"[" * 100_000
    damaged(tmp_path / "deep.safetensors", len(nested).to_bytes(8, "little") + nested)
