from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

import edgeq
from edgeq.core.artifact import ARTIFACT_FILE, DATA_FILE, MODEL_FILE, TOKENIZER_FILE, read_artifact
from edgeq.core.errors import InvalidInput
from edgeq.formats.onnx.model import OnnxModel
from tests.support import samples
from tests.support.bundles import unchecked_bundle
from tests.support.properties import examples

REPOSITORY = Path(__file__).parents[2]
TEXTS = ["a cat sat on the mat", "", "small unsatsed birds flew over the house", "?"]

# Loads in a process that may import nothing of the build side.
OFFLINE = """
import importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "transformers", "optimum", "safetensors",
                                      "huggingface_hub", "scipy", "onnx_ir"}:
            raise AssertionError(f"imported {name}")

sys.meta_path.insert(0, Refuse())
import edgeq
model = edgeq.load(sys.argv[1])
print(json.dumps([model.prepared, model.embed(json.loads(sys.argv[2])).tolist()]))
"""


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.sentence_artifact(tmp_path_factory.mktemp("sentences") / "artifact")


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.tensor_artifact(tmp_path_factory.mktemp("tensors") / "artifact", width=16)


@pytest.fixture(scope="module")
def embedder(sentences: Path) -> OnnxModel:
    model = edgeq.load(sentences)
    assert isinstance(model, OnnxModel)
    return model


@pytest.fixture(scope="module")
def classifier(tensors: Path) -> OnnxModel:
    model = edgeq.load(tensors)
    assert isinstance(model, OnnxModel)
    return model


def constants(directory: Path) -> dict[str, Any]:
    graph = onnx.load(directory / MODEL_FILE).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def embedding_by_numpy(directory: Path, tokens: list[int]) -> Any:
    table = {name: array.astype(np.float64) for name, array in constants(directory).items()}
    hidden = np.tanh((table["words"][tokens] + table["types"][0]) @ table["up.weight"])
    pooled = (hidden @ table["down.weight"]).sum(axis=0)
    return pooled / np.linalg.norm(pooled)


def test_import_edgeq_imports_no_runtime() -> None:
    program = (
        "import sys, edgeq; print({'onnxruntime', 'torch', 'transformers', 'tokenizers', 'numpy'}"
        " & set(sys.modules))"
    )
    output = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=REPOSITORY)
    assert output.strip() == "set()"


@pytest.mark.parametrize("form", ["artifact", "unzipped", "zip"])
def test_every_form_loads_without_the_build_side(tmp_path: Path, form: str) -> None:
    path = samples.sentence_artifact(tmp_path / "artifact", width=320)
    expected = edgeq.load(path).embed(TEXTS)
    if form != "artifact":
        path = unchecked_bundle(path, tmp_path / "a.zip")
    if form == "unzipped":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "open")
        path = tmp_path / "open"
    command = [sys.executable, "-c", OFFLINE, str(path), json.dumps(TEXTS)]
    prepared, vectors = json.loads(subprocess.check_output(command, text=True, cwd=REPOSITORY))
    assert prepared
    assert (np.array(vectors, np.float32) == expected).all()


def test_embed_gives_the_vectors_of_the_graph(embedder: OnnxModel, sentences: Path) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), samples.DIMENSION)
    assert vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        expected = embedding_by_numpy(sentences, embedder.tokens(text))
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_no_text_gives_no_row(embedder: OnnxModel) -> None:
    assert embedder.embed([]).shape == (0, samples.DIMENSION)
    assert embedder.embed([]).dtype == np.float32


@examples(50)
@given(st.lists(st.text(alphabet="abc unsatcatdog ?é\0\n", max_size=60), max_size=6))
def test_neighbours_do_not_change_an_embedding(embedder: OnnxModel, texts: list[str]) -> None:
    together = embedder.embed(texts)
    for text, vector in zip(texts, together, strict=True):
        assert (embedder.embed([text])[0] == vector).all()


def test_a_second_load_gives_the_same_bits(embedder: OnnxModel, sentences: Path) -> None:
    assert (edgeq.load(str(sentences)).embed(TEXTS) == embedder.embed(TEXTS)).all()
    assert (edgeq.load(sentences, threads=1).embed(TEXTS) == embedder.embed(TEXTS)).all()


def test_the_artifact_decides_truncation_and_nothing_is_padded(embedder: OnnxModel) -> None:
    # The tokenizer's own file says: cut at 8, pad to 8.
    assert len(embedder.tokens("cat " * 50)) == samples.MAX_TOKENS
    assert embedder.tokens("cat dog") == [2, 7, 8, 3]
    assert embedder.tokens("") == [2, 3]


def test_tokenize_gives_what_the_graph_takes(embedder: OnnxModel) -> None:
    feeds = embedder.tokenize("a cat")
    assert list(feeds) == ["input_ids", "attention_mask", "token_type_ids"]
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int64)}
    assert {array.shape for array in feeds.values()} == {(1, 4)}
    vector = embedder.run(feeds)["sentence_embedding"][0]
    assert (vector == embedder.embed(["a cat"])[0]).all()


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        ("one text", "is a str"),
        (b"bytes", "is a bytes"),
        ({"a"}, "is a set"),
        (["fine", 3], r"texts\[1\]: is a int"),
        ([None], r"texts\[0\]: is a NoneType"),
        (["fine", "\ud800"], r"texts\[1\]: holds a lone surrogate"),
    ],
)
def test_what_is_not_a_list_of_texts_is_refused(
    embedder: OnnxModel, texts: Any, named: str
) -> None:
    with pytest.raises(InvalidInput, match=named):
        embedder.embed(texts)


def test_run_gives_the_outputs_by_name(classifier: OnnxModel, tensors: Path) -> None:
    feeds = samples.tensor_feeds(width=16)
    table = constants(tensors)
    hidden = np.maximum(feeds["features"] @ table["hidden.weight"], 0)
    expected = hidden @ table["head.weight"] + table["classes"][feeds["kind"]]
    outputs = classifier.run(feeds)
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)


def test_run_casts_where_nothing_that_matters_is_lost(classifier: OnnxModel) -> None:
    feeds = samples.tensor_feeds(width=16)
    expected = classifier.run(feeds)["logits"]
    wider = {
        "features": np.asfortranarray(feeds["features"].astype(np.float64)),
        "kind": feeds["kind"].astype(np.int32),
    }
    assert (classifier.run(wider)["logits"] == expected).all()
    lists = {name: array.tolist() for name, array in feeds.items()}
    assert (classifier.run(lists)["logits"] == expected).all()
    swapped = {name: each.astype(each.dtype.newbyteorder()) for name, each in feeds.items()}
    assert (classifier.run(swapped)["logits"] == expected).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"features": np.zeros((3, 16), np.complex64)}, "'features': has dtype complex64"),
        ({"features": np.zeros((3, 17), np.float32)}, r"'features': has shape \(3, 17\)"),
        ({"features": np.zeros(16, np.float32)}, r"'features': has shape \(16,\)"),
        ({"kind": np.zeros(3, np.float32)}, "'kind': has dtype float32"),
        ({"kind": np.zeros(3, np.uint64)}, "'kind': has dtype uint64"),
        ({"more": np.zeros(3)}, "'more': is not an input"),
        ({"kind": np.full(3, 99)}, "onnxruntime stopped"),
    ],
)
def test_run_names_the_input_that_is_wrong(
    classifier: OnnxModel, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInput, match=named):
        classifier.run({**samples.tensor_feeds(width=16), **change})


def test_run_names_all_that_is_wrong_at_once(classifier: OnnxModel) -> None:
    with pytest.raises(InvalidInput) as error:
        classifier.run({"features": np.zeros(1, np.float32), "more": np.zeros(1)})
    assert len(error.value.problems) == 3
    assert "float32 of shape (batch, 16)" in str(error.value)


def test_a_tensor_model_embeds_no_text(classifier: OnnxModel) -> None:
    with pytest.raises(InvalidInput, match="use run"):
        classifier.embed(["a"])
    with pytest.raises(InvalidInput, match="use run"):
        classifier.tokens("a")


@examples(60)
@given(data=st.data())
def test_any_changed_byte_is_refused_by_name(
    sentences: Path, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    name = data.draw(st.sampled_from([ARTIFACT_FILE, MODEL_FILE, DATA_FILE, TOKENIZER_FILE]))
    content = bytearray((sentences / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    copy = tmp_path_factory.mktemp("changed")
    shutil.copytree(sentences, copy, dirs_exist_ok=True)
    (copy / name).write_bytes(content)
    with pytest.raises(InvalidInput) as error:
        edgeq.load(copy)
    assert [Path(problem.where).name for problem in error.value.problems] == [name]


def test_missing_and_longer_files_are_all_named(sentences: Path, tmp_path: Path) -> None:
    shutil.copytree(sentences, tmp_path, dirs_exist_ok=True)
    (tmp_path / DATA_FILE).unlink()
    with (tmp_path / TOKENIZER_FILE).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(InvalidInput) as error:
        read_artifact(tmp_path)
    assert {Path(problem.where).name for problem in error.value.problems} == {
        DATA_FILE,
        TOKENIZER_FILE,
    }


def test_the_record_reads_back_as_it_was_written(sentences: Path) -> None:
    artifact = read_artifact(sentences)
    assert artifact.task == "sentence-embedding"
    assert artifact.bytes == sum(
        (sentences / name).stat().st_size for name in (MODEL_FILE, DATA_FILE, TOKENIZER_FILE)
    )


def test_what_is_no_artifact_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        edgeq.load(tmp_path / "none")
    with pytest.raises(InvalidInput, match="holds no artifact"):
        edgeq.load(tmp_path)
    for content in (b"", b"text", b"PK\x03\x04"):
        (tmp_path / "file.zip").write_bytes(content)
        with pytest.raises(InvalidInput, match=r"file\.zip"):
            edgeq.load(tmp_path / "file.zip")
    (tmp_path / "base.yaml").write_text("edgeq: 1")
    with pytest.raises(InvalidInput, match=r"is a YAML file, no model\n.*edgeq build .*base\.yaml"):
        edgeq.load(tmp_path / "base.yaml")


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_threads_must_be_a_count(sentences: Path, threads: Any) -> None:
    with pytest.raises(InvalidInput, match="number of threads"):
        edgeq.load(sentences, threads=threads)
